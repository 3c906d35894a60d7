"""examples/paper, part by part: figures of a run, what makes it another one, the order of runs."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "paper")]
import claims  # noqa: E402
import comparing  # noqa: E402
import figures  # noqa: E402
import page  # noqa: E402
import running  # noqa: E402
from statements import STATEMENTS, Arm, Comparison, Statement  # noqa: E402

# --- Figures of a run -----------------------------------------------------------------------------


def trained(folder, epochs=3, batches=4, top5=True):
    """metrics.jsonl of a run: line k of epoch n has error 100 n + k and a tenth of it as loss."""
    lines = []
    for n in range(epochs):
        for k in range(1, batches + 1):
            value = 100.0 * n + k
            lines.append(
                {"kind": "train", "epoch": n + k / batches, "top1_error": value, "loss": value / 10}
            )
        test = {"kind": "test", "epoch": n + 1, "top1_error": 50.0 - n, "loss": 2.0 - n / 10}
        test |= {"seconds": {"step": 3.0 * (n + 1), "test": 1.0}}
        lines.append(test | ({"top5_error": 9.0 - n} if top5 else {}))
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("top5", [True, False])
def test_figures_are_of_the_last_test_and_of_whole_epochs(top5, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "colours", lambda folder: {"colour": 1 / 3})
    trained(tmp_path / "run", top5=top5)
    found = figures.of_training(tmp_path / "run")
    assert found == {
        "seconds": 10.0,
        "top1_error": 48.0,
        "test_loss": 1.8,
        "colour": 0.3333,
        "epochs_to_25": 1,
        "training_error": [2.5, 102.5, 202.5],
        "training_loss": [0.25, 10.25, 20.25],
        **({"top5_error": 7.0} if top5 else {}),
    }


def test_an_epoch_without_a_line_is_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "colours", lambda folder: {})
    trained(tmp_path / "run", epochs=2, batches=1)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    (tmp_path / "run" / "metrics.jsonl").write_text("\n".join(lines[1:]) + "\n")
    first, second = figures.of_training(tmp_path / "run")["training_error"]
    assert math.isnan(first) and second == 101.0
    assert figures._epochs_to([math.nan, 25.1, 25.0, 1.0]) == 3
    assert figures._epochs_to([60.0]) is None


def test_views_by_their_number(tmp_path):
    views = {"1": {"top1_error": 12.34567}, "10": {"top1_error": 9.87654}}
    for has, wanted in (
        (views, {"top1_error": 12.3457, "ten_views": 9.8765}),
        ({"1": views["1"]}, {"top1_error": 12.3457}),
    ):
        (tmp_path / "evaluation.json").write_text(json.dumps({"views": has}))
        assert figures.of_evaluation(tmp_path) == wanted


# --- What makes a run another one -----------------------------------------------------------------


def test_every_difference_of_a_run_is_another_folder_and_command():
    one = running.Job("small-whole-0", ("--epochs", "6", "--seed", "0"), "embedded")
    two = replace(one, options=("--epochs", "6", "--seed", "1"))
    others = [
        two,
        replace(one, data="CIFAR-10"),
        replace(one, start=two),
        replace(one, options=(), averaged=(one,)),
        replace(one, options=(), averaged=(two,)),
        replace(one, options=(), averaged=(one, two)),
        replace(one, start=replace(two, data="CIFAR-10")),
        replace(one, options=(*one.options, "--lr", "1")),
    ]
    jobs = [one, *others]
    assert len({job.folder for job in jobs}) == len(jobs) == len({job.command() for job in jobs})
    assert replace(one).folder == one.folder and one.folder.startswith("runs/paper/small-whole-0-")
    assert (one.seed, two.seed) == (0, 1)


def test_what_a_run_is_known_by_stays_as_it_is(plan):
    """A statement is committed before its first run, and lines are found by their command."""
    statement = plan.statement
    for each, name in (
        (plan, "scale"), (plan.job("one", 0, {}), "options"), (statement, "seeds"),
        (statement.arms["one"], "variant"), (statement.comparisons[0], "paper"),
    ):  # fmt: skip
        with pytest.raises(FrozenInstanceError):
            setattr(each, name, getattr(each, name))


def test_what_a_run_is_started_with():
    places = {"CIFAR-10": "/there"}
    lender = running.Job("lender", ("--seed", "0"), "embedded")
    job = running.Job("a", ("--epochs", "6", "--seed", "2"), "CIFAR-10", start=lender)
    words = f"--epochs 6 --seed 2 --start-from {lender.folder} --data /there --out {job.folder}"
    assert job.arguments(places) == words.split()
    assert "--data CIFAR-10" in job.command() and lender.arguments(places)[-2:] == [
        "--out",
        lender.folder,
    ]
    assert "--data" not in lender.arguments(places)
    mean = running.Job("average", (), "CIFAR-10", (job, lender))
    assert mean.command() == (
        f"python examples/alexnet.py --out {mean.folder} --eval {job.folder}/step-*.safetensors "
        f"{lender.folder}/step-*.safetensors"
    )
    assert job.views_command().endswith(
        f"--eval {job.folder}/step-*.safetensors --out {job.folder}/views"
    )


def test_the_net_at_the_end_of_a_run(tmp_path):
    folder = tmp_path / "run"
    assert running.last_of(str(folder)) == folder  # and alexnet.py says that it is not there
    folder.mkdir()
    for name in ("step-00000009.safetensors", "step-00000100.safetensors", "best.safetensors"):
        (folder / name).touch()
    assert running.last_of(str(folder)) == folder / "step-00000100.safetensors"


@pytest.fixture
def plan():
    statement = Statement(
        "0",
        "All there is.",
        {
            "one": Arm(),
            "rates": Arm("tanh", rates=(0.1, 0.2, 0.3)),
            "mean": Arm(average={"one": 2}),
            "lent": Arm("conv6", ("--epochs", "9"), start="lender"),
            "lender": Arm(data="photographs"),
        },
        (
            Comparison("a", 1.0, "mean", "one"),
            Comparison("b", None, "rates", ""),
            Comparison("c", None, "lent", "one", other="ten_views"),
        ),
        data="CIFAR-10",
        small=("--epochs", "4", "--lr", "7"),
        trial=2,
    )
    return running.Plan(statement, "small", 2, ("--keep", "5"))


def test_runs_in_the_order_in_which_they_are_needed(plan):
    """Trials first; then seed by seed; what is averaged or lent before what needs it, and once."""
    rows = list(plan.jobs({}))
    names = [(arm, seed, job.name) for arm, seed, job in rows]
    trial = ("rates", 0, "small-tanh-0-trial")
    assert names == [
        trial,
        trial,
        trial,
        ("mean", 0, "small-whole-0"),
        ("mean", 0, "small-whole-1"),
        ("mean", 0, "average"),
        ("rates", 0, "small-tanh-0"),
        ("lent", 0, "small-whole-0"),
        ("lent", 0, "small-conv6-0"),
        ("rates", 1, "small-tanh-1"),
        ("lent", 1, "small-whole-1"),
        ("lent", 1, "small-conv6-1"),
    ]
    lender, lent = rows[7][2], rows[8][2]
    assert (lender.data, lent.data, lent.start) == ("photographs", "CIFAR-10", lender)
    pairs = dict(zip(lent.options[::2], lent.options[1::2], strict=True))
    words = "--preset mini --epochs 9 --batch-size 32 --keep 5 --lr 7 --variant conv6 --seed 0"
    assert pairs == dict(zip(words.split()[::2], words.split()[1::2], strict=True))


@pytest.mark.parametrize(
    "losses, best",
    [
        ([[1.0], [0.5], [0.7]], 0.2),
        ([[math.nan], [0.5], [0.7]], 0.2),
        ([[0.9], [math.nan], [0.7]], 0.3),
        ([[0.1, 5.0], [9.0, 4.0], [math.inf]], 0.2),
        ([[math.nan]] * 3, 0.1),
        ([None, None, [3.0]], 0.3),
        ([[2.0], [2.0], [2.0]], 0.1),
    ],
)
def test_the_rate_with_the_lowest_loss_at_the_end_of_its_trial(losses, best, plan):
    lines = {}
    for job, loss in zip(plan.trials("rates"), losses, strict=True):
        pairs = dict(zip(job.options[::2], job.options[1::2], strict=True))
        assert (pairs["--epochs"], pairs["--seed"]) == ("2", "0")
        if loss is not None:
            lines[job.command()] = {"training_loss": loss}
    assert plan.best_rate("rates", lines) == best
    job = plan.job("rates", 1, lines)
    pairs = dict(zip(job.options[::2], job.options[1::2], strict=True))
    assert (pairs["--lr"], pairs["--epochs"], pairs["--seed"]) == (f"{best:g}", "4", "1")
    assert plan.trials("one") == []


def test_of_both_scales():
    for name, statement in STATEMENTS.items():
        small, full = (running.Plan(statement, scale, 1) for scale in ("small", "full"))
        assert small.arms is statement.arms
        assert full.arms == (statement.full_arms or statement.arms)
        whole = statement.full_arms
        assert full.comparisons == [
            row
            for row in statement.comparisons
            if not whole or ({row.arm, row.against} - {""} <= whole.keys())
        ], name
        for plan, preset in ((small, "mini"), (full, "paper")):
            for arm, row in plan.arms.items():
                job = plan.job(arm, 0, {})
                if row.average:
                    continue
                pairs = dict(zip(job.options[::2], job.options[1::2], strict=True))
                assert pairs["--preset"] == preset and pairs["--keep"] == "1"
                assert pairs.get("--variant", "") == row.variant
                shards = "MORE-SHARDS" if row.data else "SHARDS"
                assert job.data == (shards if preset == "paper" else row.data or statement.data)


# --- The book, and a run --------------------------------------------------------------------------


def test_a_line_is_on_the_disk_when_it_is_known(tmp_path, monkeypatch):
    path, synced = tmp_path / "paper" / "runs.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(path.read_text()))
    book = running.Book(path)
    for n in range(2):
        book.add({"command": f"run {n}", "value": n})
        assert synced[-1] == path.read_text() and synced[-1].count("\n") == n + 1
    assert running.Book(path).lines == book.lines
    assert list(book.lines) == ["run 0", "run 1"] and book.lines["run 1"]["value"] == 1

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        book.add({"command": "run 2"})
    assert "run 2" not in book.lines


@pytest.fixture
def performed(tmp_path, monkeypatch):
    """alexnet.py is not run: what it would be asked is kept."""
    asked = []

    def alexnet(words, folder):
        asked.append((words, folder))
        if "--eval" not in words:
            (folder / "step-00000009.safetensors").touch()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "alexnet", alexnet)
    monkeypatch.setattr(running, "commit", lambda: f"abc{len(asked)}")
    monkeypatch.setattr(
        figures, "of_training", lambda folder: {"top1_error": 5.0, "trained": (folder, len(asked))}
    )
    monkeypatch.setattr(
        figures, "of_evaluation", lambda folder: {"ten_views": 4.0, "seen": (folder, len(asked))}
    )
    return asked


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("begun", ["", "config.json", "config.json step-00000003.safetensors"])
def test_a_run_is_begun_or_gone_on_with(views, begun, performed):
    job = running.Job("a", ("--epochs", "2", "--seed", "4"), "CIFAR-10")
    folder = Path(job.folder)
    folder.mkdir(parents=True)
    for name in begun.split():
        (folder / name).touch()
    line = running.perform(job, {"CIFAR-10": "/c"}, "cpu", views)
    first = ["--resume", "--out", job.folder] if " " in begun else job.arguments({"CIFAR-10": "/c"})
    last = str(folder / "step-00000009.safetensors")  # that the run itself has left
    wanted = [([*first, "--device", "cpu"], folder)]
    if views:
        words = ["--eval", last, "--out", f"{job.folder}/views", "--device", "cpu"]
        wanted.append((words, folder))
    assert performed == wanted
    assert line["trained"] == (folder, 1)
    assert line.get("seen") == ((folder / "views", 2) if views else None)
    commit = f"abc{1 + views}"
    assert (line["command"], line["commit"], line["seed"]) == (job.command(), commit, 4)
    assert line["top1_error"] == 5.0 and ("ten_views" in line) == ("views_command" in line) == views


def test_an_average_has_no_seed_and_is_never_gone_on_with(performed):
    one = running.Job("a", ("--seed", "4"), "embedded")
    job = running.Job("average", (), "embedded", (one, one))
    Path(job.folder).mkdir(parents=True)
    (Path(job.folder) / "config.json").touch()
    line = running.perform(job, {}, None, True)
    assert performed == [
        (["--out", job.folder, "--eval", one.folder, one.folder], Path(job.folder))
    ]
    assert "seed" not in line and line["ten_views"] == 4.0
    assert line["seen"] == (Path(job.folder), 1)


def test_an_error_of_a_run_is_told_with_its_last_line(tmp_path, monkeypatch):
    program = tmp_path / "alexnet.py"
    program.write_text(
        "import sys; print('one'); print('two', sys.argv[1]); sys.exit(int(sys.argv[1]))"
    )
    monkeypatch.setattr(running, "ALEXNET", program)
    folder = tmp_path / "runs" / "a"
    running.alexnet(["0"], folder)
    with pytest.raises(running.RunError, match="3 ended with status 3: two 3; see .*a.log"):
        running.alexnet(["3"], folder)
    log = (tmp_path / "runs" / "a.log").read_text()
    assert log.split() == ["one", "two", "0", "one", "two", "3"]


# --- The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [True, False])
def test_what_has_no_views_yet_is_done_again(views, monkeypatch, tmp_path, capsys):
    row = Comparison("a", 1.0, "whole", "whole", other="ten_views" if views else "")
    statement = Statement("0", "Views.", {"whole": Arm()}, (row,), seeds=2)
    plan, book, ran = running.Plan(statement, "small", 2), running.Book(tmp_path / "runs.jsonl"), []
    jobs = [job for _, _, job in plan.jobs({})]
    book.add({"command": jobs[0].command(), "top1_error": 1.0})

    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now

    def perform(job, places, device, with_views):
        ran.append((job, places, device, with_views))
        clock.now += 180
        return {"command": job.command(), "ten_views": 2.0}

    monkeypatch.setattr(claims, "time", clock)
    monkeypatch.setattr(claims, "perform", perform)
    claims.run(plan, book, {"x": "y"}, "cpu")
    wanted = jobs if views else jobs[1:]
    assert ran == [(job, {"x": "y"}, "cpu", views) for job in wanted]
    said = capsys.readouterr().out
    left = f"2 of 2: whole, seed 1{', about 3 min left' * views}: {jobs[1].command()}\n"
    assert left in said and said.count("left:") == views
    assert ("1 of 2 runs stand in" in said) == (not views)
    ran.clear()
    claims.run(plan, book, {}, None)
    assert not ran and "2 of 2 runs stand in" in capsys.readouterr().out


def test_the_time_left_is_by_the_mean_of_the_runs_that_were_done(monkeypatch, tmp_path, capsys):
    """Five runs; the second stands in the book. The others take 2, 5, 8 and 1 minutes."""
    statement = Statement("0", "Time.", {"a": Arm()}, (Comparison("a", 1.0, "a", "a"),), seeds=5)
    plan, book = running.Plan(statement, "small", 5), running.Book(tmp_path / "runs.jsonl")
    book.add({"command": plan.job("a", 1, {}).command(), "top1_error": 1.0})
    clock, minutes = SimpleNamespace(now=1000.0), iter((2, 5, 8, 1))
    clock.monotonic = lambda: clock.now

    def perform(job, *_):
        clock.now += 60 * next(minutes)
        return {"command": job.command(), "top1_error": 2.0}

    monkeypatch.setattr(claims, "time", clock)
    monkeypatch.setattr(claims, "perform", perform)
    claims.run(plan, book, {}, None)
    said = [line.partition(": python")[0] for line in capsys.readouterr().out.splitlines()]
    assert said[:4] == [
        "1 of 5: a, seed 0", "3 of 5: a, seed 2, about 6 min left",
        "4 of 5: a, seed 3, about 7 min left", "5 of 5: a, seed 4, about 5 min left",
    ]  # fmt: skip


def test_what_is_said_reaches_the_runs(tmp_path, monkeypatch, capsys):
    asked, out = [], tmp_path / "paper"
    monkeypatch.setattr(claims, "run", lambda *each: asked.append(each))
    given = "--scale full --seeds 2 --data a --more-data b --device cpu:1 -- --epochs 1"
    assert claims.main(["run", "sixth", "--out", str(out), *given.split()]) == 0
    assert claims.main(["run", "colour", "--out", str(out), "--data", "c"]) == 0
    found = [
        (plan.statement, plan.scale, plan.seeds, plan.more, book.path, places, device)
        for plan, book, places, device in asked
    ]
    shards = {"SHARDS": "a", "MORE-SHARDS": "b"}
    lines = out / "runs.jsonl"
    assert found == [
        (STATEMENTS["sixth"], "full", 2, ("--epochs", "1"), lines, shards, "cpu:1"),
        (STATEMENTS["colour"], "small", 5, (), lines, {"CIFAR-10": "c"}, None),
    ]

    def stopped(*each):
        raise KeyboardInterrupt

    monkeypatch.setattr(claims, "run", stopped)
    capsys.readouterr()
    assert claims.main(["run", "norm", "--out", str(out)]) == 130
    assert capsys.readouterr() == ("", "stopped; the same command goes on\n")
    assert claims.main(["list"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "sixth (section 7, table 2; CIFAR-10, photographs)" in said
    assert [line.split()[0] for line in said[::2]] == list(STATEMENTS)
    assert [line.strip() for line in said[1::2]] == [each.text for each in STATEMENTS.values()]


def test_where_the_pictures_are():
    more = {"photographs", "MORE-SHARDS"}
    for name in ("CIFAR-10", "SHARDS", *more):
        places = claims.places_of({name}, "a", "b")
        assert places == {name: "b" if name in more else "a"}
        flag = "--more-data" if name in more else "--data"
        with pytest.raises(
            ValueError, match=f"expected {flag} PATH: this statement is about {name}"
        ):
            claims.places_of({name}, *("a", None) if name in more else (None, "b"))
    assert claims.places_of(set(), None, None) == {}


# --- The sentence ---------------------------------------------------------------------------------


def test_a_ratio_is_judged_against_the_logarithm_of_the_papers():
    """Between 0.5 and 3 times: 6 times is ruled out, 2 times is not."""
    found = comparing.Difference(math.log(1.2), math.log(0.5), math.log(3.0), 3)
    for paper, said in ((6.0, "Not seen: an effect"), (2.0, "Too small"), (None, "Too small")):
        assert comparing.sentence("it takes longer", found, paper, True).startswith(said)
    row = Comparison("it takes longer", 6.0, "tanh", "ReLU", "epochs_to_25")
    plan = SimpleNamespace(comparisons=[row], seeds=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "found_of", lambda *each: found)
        text = "\n".join(page.told("relu", plan, {}))
    assert "| tanh / ReLU | 6 times | 1.20 times (0.50 to 3.00) | 3 | not seen |" in text
    same = comparing.Difference(1.2, -0.5, 3.0, 3)
    assert comparing.sentence("more", same, 2.0, False).startswith("Too small")
    assert comparing.sentence("more", same, 6.0, False).startswith("Not seen: an effect")
    assert "; the paper has +6." in comparing.sentence("more", same, 6.0, False)
    assert "the paper has" not in comparing.sentence("more", same, None, False)


@pytest.mark.parametrize("figure", ["top1_error", "epochs_to_25"])
@pytest.mark.parametrize(
    "low, high", [(0.5, 0.95), (0.5, 1.5), (0.9, 3.0), (0.9, 8.0), (1.1, 1.15), (1.1, 8.0)]
)
def test_table_and_sentence_judge_alike(low, high, figure, monkeypatch):
    """Of a ratio: in logarithms, 1 for 0. Papers have 6, 1.2, and no number."""
    ratio = figure == "epochs_to_25"
    change, same = (math.log, 1.0) if ratio else (float, 0.0)
    ends = (low, high) if ratio else (low - 1, high - 1)
    found = comparing.Difference(*map(change, (sum(ends) / 2, *ends)), 3)
    monkeypatch.setattr(page, "found_of", lambda *each: found)
    for paper in (6.0, 1.2, None):
        row = Comparison("it takes longer", paper, "a", "b", figure)
        text = list(page.told("x", SimpleNamespace(comparisons=[row], seeds=0), {}))
        if ends[0] > same:
            said, begin = "seen", "Seen"
        elif ends[1] < same:
            said, begin = "other way", "Not seen, but the opposite"
        elif paper and ends[1] < paper:
            said, begin = "not seen", "Not seen: an effect"
        else:
            said, begin = "too small to tell", "Too small"
        assert [line for line in text if line.endswith(f"| 3 | {said} |")]
        assert text[-1].startswith(begin)
        number = f"{paper or 0:g} times" if ratio else f"+{paper or 0:g}"
        assert text[-1].endswith(f"; the paper has {number}.") == bool(paper)


def test_more_pairs_than_the_table_has():
    values = np.random.default_rng(0).normal(size=40)
    found = comparing.difference(values + 1, np.ones(40))
    half = comparing.T[-1] * values.std(ddof=1) / math.sqrt(40)
    assert found.high - found.mean == pytest.approx(half) and found.pairs == 40
    for n in (2, 3, 31, 32):
        d = values[:n]
        t = comparing.T[min(n - 1, 30) - 1]
        found = comparing.difference(d, 0 * d)
        assert found.mean - found.low == pytest.approx(t * d.std(ddof=1) / math.sqrt(n))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_that_is_interrupted_ends_before_the_command_does(terminal, tmp_path, monkeypatch):
    """It saves; and is waited for. Its bar is for a terminal, or for the log like all else."""
    told = []
    stderr = SimpleNamespace(isatty=lambda: terminal)
    monkeypatch.setattr(running, "sys", SimpleNamespace(stderr=stderr, executable="python"))

    class Child:
        def __init__(self, *arguments, stdout, stderr):
            assert stdout.name == str(tmp_path / "a.log")
            assert stderr is (None if terminal else stdout)

        def wait(self):
            told.append("wait")
            if len(told) == 1:
                raise KeyboardInterrupt
            return 0

        def terminate(self):
            told.append("terminate")

    monkeypatch.setattr(running.subprocess, "Popen", Child)
    with pytest.raises(KeyboardInterrupt):
        running.alexnet([], tmp_path / "a")
    assert told == ["wait", "terminate", "wait"]


@pytest.mark.parametrize("status, mark", [(0, ""), (1, "+"), (128, "")])
def test_a_commit_of_changed_files_is_marked(status, mark, monkeypatch):
    def run(words, **options):
        return SimpleNamespace(returncode=status if "diff" in words else 0, stdout="0123456789\n")

    monkeypatch.setattr(running.subprocess, "run", run)
    assert running.commit() == "0123456789" + mark


def test_runs_minutes_and_commits_of_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "draw", lambda *each: "")
    monkeypatch.setattr(page, "STATEMENTS", {"norm": STATEMENTS["norm"]})
    plan, lines = running.Plan(STATEMENTS["norm"], "small", 3), {}
    for number, (_, _, job) in enumerate(plan.jobs({})):
        if number < 5:
            about = {"commit": "ba"[number % 2], "seconds": 90.0, "top1_error": 20.0 + number}
            lines[job.command()] = {"command": job.command(), **about}
    text = page.write_page(tmp_path / "paper", lines).read_text()
    assert "5 runs, 8 minutes of training and testing in all; commits a, b." in text
    assert "| norm | small | 1 |" in text and "| norm | full | 6 |" in text


def test_runs_with_more_options_make_no_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "draw", lambda *each: "")
    monkeypatch.setattr(
        claims,
        "perform",
        lambda job, *_: {"command": job.command(), "commit": "a", "top1_error": 1.0},
    )
    words = ["run", "norm", "--seeds", "1", "--out", str(tmp_path / "paper"), "--", "--epochs", "1"]
    assert claims.main(words) == 0
    assert not (tmp_path / "paper.md").exists() and "| none |" in capsys.readouterr().out
    assert claims.main(words[:-3]) == 0
    assert (tmp_path / "paper.md").exists()
    assert claims.main(["page", "--out", str(tmp_path / "gone")]) == 2
    assert "runs.jsonl: expected a line for each run, got none" in capsys.readouterr().err
    assert not {"gone", "gone.md"}.intersection(path.name for path in tmp_path.iterdir())
    for wrong in (["run"], ["list", "norm"], ["page", "norm"]):
        assert claims.main(wrong) == 2
        assert "expected `run NAME`, `list` or `page`" in capsys.readouterr().err
