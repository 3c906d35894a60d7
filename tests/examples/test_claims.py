"""examples/paper: statements as data, the rule of their sentences, resumed runs, the page."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "paper")]
import alexnet  # noqa: E402
import claims  # noqa: E402
import comparing  # noqa: E402
import figures  # noqa: E402
import page  # noqa: E402
import running  # noqa: E402
from statements import STATEMENTS, Arm, Comparison, Statement  # noqa: E402
from variants import VARIANTS, varied  # noqa: E402

from tinynet.data.prepare import prepare  # noqa: E402
from tinynet.errors import DataError  # noqa: E402
from tinynet.training import checkpoint  # noqa: E402


def plan(name: str, scale: str = "small", seeds: int = 2, more=()) -> running.Plan:
    return running.Plan(STATEMENTS[name], scale, seeds, tuple(more))


def written(
    name: str, figure: str, values: dict[str, list], scale: str = "small"
) -> dict[str, dict]:
    """Lines of a statement: the values of each arm by seed."""
    mine, lines = plan(name, scale), {}
    for arm, several in values.items():
        for seed, value in enumerate(several):
            command = mine.job(arm, seed, lines).command()
            lines[command] = {"command": command, "commit": "abc", "seconds": 60.0, figure: value}
    return lines


# --- The rule -------------------------------------------------------------------------------------


def test_a_paired_difference_by_hand():
    """d = 1, 2, 3: mean 2, deviation 1, t = 4.303 with two degrees of freedom."""
    found = comparing.difference([5, 7, 9], [4, 5, 6])
    assert found.mean == 2 and found.pairs == 3
    assert found.high - 2 == pytest.approx(4.303 / math.sqrt(3)) == 2 - found.low
    single = comparing.difference([5], [4])
    assert single.mean == 1 and math.isnan(single.low)


def test_student_s_t_against_its_density():
    """The integral of the density up to T[n - 1] is 0.975, for its three digits."""
    for n, t in enumerate(comparing.T, 1):
        grid = np.linspace(0, t, 20_001)
        log = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - 0.5 * math.log(n * math.pi)
        density = np.exp(log) * (1 + grid**2 / n) ** (-(n + 1) / 2)
        near = 0.00051 * density[-1]
        assert np.trapezoid(density, grid) == pytest.approx(0.475, abs=near), n


@pytest.mark.parametrize(
    "low, high, paper, said",
    [
        (0.1, 3.0, 1.0, comparing.SEEN),
        (0.1, 0.2, 1.0, comparing.SEEN),  # smaller than the paper's, but there
        (0.1, 0.2, None, comparing.SEEN),
        (-3.0, -0.1, 1.0, comparing.OTHER_WAY),
        (-0.5, 0.9, 1.0, comparing.NOT_SEEN),
        (-0.5, 1.1, 1.0, comparing.TOO_SMALL),
        (-0.5, 0.9, None, comparing.TOO_SMALL),
        (math.nan, math.nan, 1.0, comparing.TOO_SMALL),
        (0.0, 0.0, 1.0, comparing.TOO_SMALL),
        (0.0, 0.5, 1.0, comparing.NOT_SEEN),  # an interval that ends at 0 holds it
        (-0.5, 0.0, None, comparing.TOO_SMALL),
        (-0.5, 1.0, 1.0, comparing.TOO_SMALL),  # and one that ends at the paper's number, that
    ],
)
def test_the_rule_of_the_sentence(low, high, paper, said):
    found = comparing.Difference((low + high) / 2, low, high, 3)
    assert comparing.verdict(found, paper) == said


def test_a_ratio_is_told_as_one():
    """Epochs 40 and 60 against 10 and 15: four times, whatever the seed."""
    logs = comparing.difference(np.log([40, 60]), np.log([10, 15]))
    said = comparing.sentence("tanh takes longer", logs, 6.0, ratio=True)
    assert (
        said == "Seen: tanh takes longer, here by 4.00 times (4.00 to 4.00); the paper has 6 times."
    )


# --- Statements and their runs --------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["small", "full"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_names_what_is_there(name, scale):
    mine = plan(name, scale)
    rows = mine.arms.values()
    assert all(row.variant in ("", *VARIANTS) for row in rows)
    names = {name for row in rows for name in (row.start, *row.average) if name}
    assert names <= mine.arms.keys() and mine.comparisons
    jobs = [job for _, _, job in mine.jobs({})]
    commands = [job.command() for job in jobs]
    assert len(set(commands)) == len(commands) == len({job.folder for job in jobs})
    for job in jobs:  # what lends its layers, or is averaged, comes first
        for before in (*job.averaged, *([job.start] if job.start else [])):
            assert commands.index(before.command()) < commands.index(job.command())


def test_arms_are_what_they_are_called_at_both_scales():
    """With colour noise and without, tanh and ReLU: what one preset does, another one may not."""
    for scale, preset in (("small", "mini"), ("full", "paper")):
        for arm, row in plan("noise", scale).arms.items():
            recipe = alexnet.PROGRAM.recipe(preset, row.variant or None)
            assert recipe.data.colour == {"with": 0.1, "without": 0.0}[arm]
        for arm, row in plan("relu", scale).arms.items():
            after = varied(alexnet.PRESETS[preset], row.variant or None).after
            assert ("tanh" in after["conv1"]) == ("tanh" in after["conv2"]) == ("tanh" in arm)
    full = plan("relu", "full").arms
    assert {row.rates for row in full.values()} == {(0.003, 0.01)}  # the same for both
    assert varied(alexnet.PAPER, full["tanh"].variant).layers == alexnet.PAPER.layers


def test_rates_to_choose_from_are_neighbours():
    """1 and 3, of each decade: the best of some that lie further apart says less."""
    for statement in STATEMENTS.values():
        for row in (*statement.arms.values(), *statement.full_arms.values()):
            assert all(3 <= b / a < 3.4 for a, b in itertools.pairwise(row.rates))
            assert all(0.001 <= rate <= 0.03 for rate in row.rates) and len(row.rates) != 1


def test_statements_share_what_is_the_same():
    whole = [plan(name).job("whole", 1, {}) for name in ("pools", "norm", "dropout", "depth")]
    assert len({job.command() for job in whole}) == 1
    assert plan("views").job("whole", 1, {}).command() != whole[0].command()  # other pictures


def test_what_is_said_by_hand_counts_most():
    words = plan("norm", more=("--epochs", "1")).job("none", 3, {}).options
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    assert pairs["--epochs"] == "1" and pairs["--seed"] == "3" and pairs["--variant"] == "no-norm"
    assert len(pairs) * 2 == len(words)
    with pytest.raises(ValueError, match="options with a value each, got .*--tf32"):
        plan("norm", more=("--tf32",)).job("none", 3, {})


def test_the_best_rate_of_the_trials_is_taken():
    mine = plan("relu")
    losses = {0.001: [3.0, 1.5], 0.003: [2.0, 1.0], 0.01: [math.nan, math.nan]}
    lines = {}
    for rate, job in zip(losses, mine.trials("tanh"), strict=True):
        assert f"--lr {rate:g} " in job.command() and "--epochs 3 " in job.command()
        lines[job.command()] = {"training_loss": losses[rate]}
    job = mine.job("tanh", 1, lines)
    assert "--lr 0.003 " in job.command() and "--epochs 70 " in job.command()


def test_a_line_that_is_no_run_is_named(tmp_path):
    (tmp_path / "runs.jsonl").write_text('{"command": "a"}\n{"seed": 1}\n')
    with pytest.raises(DataError, match=r"runs.jsonl, line 2: .* delete this line"):
        running.Book(tmp_path / "runs.jsonl")


def test_what_is_in_the_book_is_not_run_again(tmp_path, monkeypatch, capsys):
    ran = []

    def perform(job, *_):
        ran.append(job.command())
        return {"command": job.command(), "commit": "abc", "top1_error": 10.0 + len(ran)}

    monkeypatch.setattr(claims, "perform", perform)
    monkeypatch.setattr(page, "draw", lambda *each: "")  # which takes long
    arguments = ["--out", str(tmp_path / "paper"), "run", "norm", "--seeds", "2"]
    assert claims.main(arguments) == 0
    assert len(ran) == 4 and "4 of 4: " in capsys.readouterr().out
    assert claims.main(arguments) == 0 and len(ran) == 4
    lines = (tmp_path / "paper" / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["command"] for line in lines] == ran
    arguments[-1] = "3"
    assert claims.main(arguments) == 0 and len(ran) == 6
    assert "## norm" in (tmp_path / "paper.md").read_text()


# --- The page -------------------------------------------------------------------------------------


def test_before_the_first_pair_there_is_no_picture(tmp_path):
    for name in ("norm", "relu"):
        assert page.draw(tmp_path, name, plan(name), {}) == "" and not list(tmp_path.iterdir())


def test_folders_are_made(tmp_path, monkeypatch):
    """Of pictures, and of a page without any."""
    monkeypatch.setattr(page, "draw_differences", lambda rows, unit, path: path.touch())
    lines = written("norm", "top1_error", {"whole": [20.0, 22.0], "none": [23.0, 23.0]})
    deep = tmp_path / "a" / "b"
    assert (
        page.draw(deep, "norm", plan("norm"), lines) == "norm.png" and (deep / "norm.png").exists()
    )
    there = page.write_page(tmp_path / "c" / "paper", {})
    assert there == tmp_path / "c" / "paper.md" and "## Not run yet" in there.read_text()


def test_each_scale_has_a_picture_of_its_own(tmp_path, monkeypatch):
    """Bars and curves; the page shows both."""
    for name in ("draw_differences", "draw_many"):
        monkeypatch.setattr(page, name, lambda *each: each[-1].touch())
    for name, figure in (("norm", "top1_error"), ("relu", "epochs_to_25")):
        lines = {}
        for scale in ("small", "full"):
            lines |= written(name, figure, {arm: [20.0] for arm in plan(name, scale).arms}, scale)
        for line in lines.values():
            line["training_error"] = [30.0, 20.0]
        monkeypatch.setattr(page, "STATEMENTS", {name: STATEMENTS[name]})
        text = page.write_page(tmp_path / name, lines).read_text()
        pictures = {f"{name}.png", f"{name}-full.png"}
        assert {path.name for path in (tmp_path / name).iterdir()} == pictures
        assert all(text.count(f"({name}/{picture})") == 1 for picture in pictures)


def test_only_seeds_that_both_have_are_compared():
    lines = written("norm", "top1_error", {"whole": [20.0, 22.0], "none": [23.0]})
    (row,) = STATEMENTS["norm"].comparisons
    assert page.compared(plan("norm"), row, lines) == ({0: 23.0}, {0: 20.0})
    for whole, none, seeds in (
        ([20.0], [23.0, 25.0], [0]), ([20.0, None], [None, 23.0], []), ([], [23.0], []),
        ([20.0, 21.0], [], []), ([None, 21.0], [22.0, 23.0], [1]), ([0.0, 1.0], [0.0, 0.0], [0, 1]),
    ):  # fmt: skip
        lines = written("norm", "top1_error", {"whole": whole, "none": none})
        ours, theirs = page.compared(plan("norm"), row, lines)
        assert ours == {seed: none[seed] for seed in seeds}
        assert theirs == {seed: whole[seed] for seed in seeds}
        found = page.found_of(plan("norm"), row, lines)
        assert (found.pairs if found else 0) == len(seeds)


def test_an_error_that_was_not_reached_counts_as_one_epoch_more():
    lines = written("relu", "epochs_to_25", {"tanh": [40, None], "ReLU": [10, 20]})
    for line in lines.values():
        line["training_error"] = [50.0] * 70
    text = "\n".join(page.told("relu", plan("relu"), lines))
    assert "| tanh | epochs | 55.50 | 21.92 | 40, not in 70 |" in text
    assert "| tanh / ReLU | 6 times | 3.77 times" in text  # sqrt(4 * 71 / 20)


def test_the_page_that_is_kept_is_that_of_its_lines(tmp_path, monkeypatch):
    """docs/paper.md, every table and sentence; and its pictures show what the tables say."""
    docs, drawn = EXAMPLES.parent / "docs", {}
    monkeypatch.setattr(page, "draw_many", lambda *each: drawn.update({each[-1].name: each}))
    real = page.draw_differences

    def draw(*each):
        drawn[each[-1].name] = each
        if each[-1].name == "norm.png":  # one of them is drawn
            real(*each)

    monkeypatch.setattr(page, "draw_differences", draw)
    lines = running.Book(docs / "paper" / "runs.jsonl").lines
    text = page.write_page(tmp_path / "paper", lines).read_text(encoding="utf-8")
    assert text == (docs / "paper.md").read_text(encoding="utf-8")
    assert {*drawn} == {path.name for path in (docs / "paper").glob("*.png")}
    assert (tmp_path / "paper" / "norm.png").stat().st_size > 1000
    curves, *words, _ = drawn.pop("relu.png")
    assert words == ["epoch", "training error, %", 25.0]
    for arm, row in STATEMENTS["relu"].arms.items():
        runs = [f"--variant {row.variant} " in c and "--epochs 3 " not in c for c in lines]
        wanted = [each["training_error"] for each in itertools.compress(lines.values(), runs)]
        assert curves[arm] == wanted and len(wanted) == 3
    assert drawn["colour.png"][1] == "difference of colour, points"
    assert drawn["norm.png"][1] == "difference of top-1 error, %"
    for rows, _, _ in drawn.values():
        for title, apart, (low, high), paper in rows:
            found = f"{np.mean(apart):+.2f} ({low:+.2f} to {high:+.2f}) | {len(apart)} |"
            assert f"| {title} | {comparing.size(paper, False)} | {found}" in text


# --- Figures --------------------------------------------------------------------------------------


def test_colours_of_towers(tmp_path, rng):
    """A grey tower and a coloured one; and two that are alike."""
    grey = np.repeat(rng.normal(size=(16, 1, 5, 5)), 3, axis=1)
    colour = rng.normal(size=(16, 3, 5, 5))
    colour -= colour.mean(axis=1, keepdims=True)
    found = {}
    for name, towers in (("apart", (grey, colour)), ("alike", (colour, rng.permutation(colour)))):
        arrays = {
            f"{t}.conv1.weight": w.astype(np.float32) for t, w in zip("ab", towers, strict=True)
        }
        path = checkpoint.path_of(tmp_path / name, 3)
        path.parent.mkdir()
        checkpoint.save(path, checkpoint.Checkpoint(arrays, {}, {}, {"about": {}}))
        found[name] = figures.colours(tmp_path / name)
    apart, alike = found["apart"], found["alike"]
    assert apart["colour_a"] == pytest.approx(0, abs=1e-4)
    assert apart["colour_b"] == pytest.approx(100)  # %
    assert apart["colour_p"] == 0 and apart["colour"] > 70
    assert alike["colour"] < 1e-4 and alike["colour_a"] == pytest.approx(100)
    # Dealt by chance, three grey ones and one of colours lie 100 apart or, three times in four, 33.
    grey, colour = (w / np.sqrt((w**2).sum(axis=(1, 2, 3), keepdims=True)) for w in (grey, colour))
    arrays = {"a.conv1.weight": grey[:3], "b.conv1.weight": colour[:1]}
    checkpoint.save(path, checkpoint.Checkpoint(arrays, {}, {}, {"about": {}}))
    dealt = figures.colours(tmp_path / name)
    assert dealt["colour"] == pytest.approx(100 - 50, abs=2)
    assert dealt["colour_p"] == pytest.approx(1 / 4, abs=0.03)
    assert figures.colours(tmp_path / name) == dealt  # bit by bit
    arrays = {"a.conv1.weight": np.stack([grey[0], 2 * colour[0]]), "b.conv1.weight": colour[:2]}
    checkpoint.save(path, checkpoint.Checkpoint(arrays, {}, {}, {"about": {}}))
    energy = [(kernel**2).sum() for kernel in arrays["a.conv1.weight"]]  # a weight of each kernel
    share = 100 * energy[1] / sum(energy)
    dealt = figures.colours(tmp_path / name)
    assert dealt["colour_a"] == pytest.approx(share) and share == pytest.approx(80)
    # 20 apart. Dealt by chance, the grey one is with the strong one (20) or with a weak one (50).
    assert dealt["colour"] == pytest.approx(20 - (20 + 50 + 50) / 3, abs=2)
    assert dealt["colour_p"] == 1
    for one in ({"a.conv1.weight": colour}, {f"{t}.conv1.weight": grey[:, :1] for t in "ab"}):
        checkpoint.save(path, checkpoint.Checkpoint(one, {}, {}, {"about": {}}))
        assert figures.colours(tmp_path / name) == {}  # one tower, or no colours


def test_what_is_single_runs_own_is_not_said_for_all(tmp_path, capsys):
    """Seeds that are all the same, or arms, would make intervals of width 0."""
    mine = ["run", "norm", "--out", str(tmp_path)]
    for flag, value in [
        ("--seed", "7"), ("--variant", "conv6"), ("--lr", "1"), ("--start-from", "x"),
        ("--data", "x"), ("--out", "x"),
    ]:  # fmt: skip
        assert claims.main([*mine, "--", "--epochs", "1", flag, value]) == 2
        assert f"the same for all runs after --, got {flag}:" in capsys.readouterr().err
    assert claims.main(["run", "norm", "--", "--epochs", "1"]) == 2
    assert "give --out FOLDER" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- Whole runs -----------------------------------------------------------------------------------

TINY = ["--", "--limit-pictures", "64,40", "--epochs", "1"]


@pytest.mark.slow
def test_a_statement_runs_from_the_command_to_its_sentence(tmp_path, monkeypatch, capsys):
    """Of the embedded pictures a few: nets and their averages, stopped once and gone on with."""
    monkeypatch.chdir(tmp_path)
    little = Statement(
        "7", "Averages, and a net that begins with another.",
        {"one": Arm(), "two": Arm(average={"one": 2}), "next": Arm("conv6", start="one")},
        (
            Comparison("one errs more than two", 2.0, "one", "two"),
            Comparison("one errs more than the next", None, "one", "next", other="top1_error"),
        ),
        seeds=2,
    )  # fmt: skip
    monkeypatch.setitem(STATEMENTS, "little", little)
    command = ["run", "little", "--out", str(tmp_path / "paper"), *TINY]
    alexnet, calls = running.alexnet, []

    def stopped(arguments, folder):
        calls.append(arguments)
        alexnet(arguments, folder)
        if len(calls) == 2:  # the run is done, its line not written
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "alexnet", stopped)
    assert claims.main(command) == 130
    assert claims.main(command) == 0
    assert calls[2][:2] == ["--resume", "--out"]
    assert len(calls) == 6  # two nets, one of them gone on with, their average, two others
    lines = [
        json.loads(line) for line in (tmp_path / "paper" / "runs.jsonl").read_text().splitlines()
    ]
    singles, average = lines[:2], lines[2]
    assert average["command"].startswith("python examples/alexnet.py --out runs/paper/average-")
    assert average["command"].count("step-*.safetensors") == 2
    assert all(0 <= line["top1_error"] <= 100 and line["seconds"] > 0 for line in singles)
    assert [line["seed"] for line in singles] == [0, 1] and "seed" not in average
    assert "ten_views" not in average  # of grey pictures the net sees the whole
    folders = [line["command"].split("--out ")[1] for line in singles]
    nets = [next(Path(folder).glob("step-*")) for folder in folders]
    assert running.alexnet and all(net.name == "step-00000002.safetensors" for net in nets)
    said = capsys.readouterr().out
    assert "| one - two | +2 |" in said and "The paper: one errs more than two." in said


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Prepared shards of pictures of 256x256, of three classes."""
    root, rng = tmp_path_factory.mktemp("imagenet"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 2)):
        for label in range(3):
            folder = root / "pictures" / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 170, (256, 256, 3)) + 40 * label
                Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
    prepare(root / "pictures", root / "shards", workers=1, progress=False)
    return root / "shards"


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Where all statements leave their runs: what several have in common is run once."""
    return tmp_path_factory.mktemp("full")


NARROW = """
import sys
from dataclasses import replace

sys.path.insert(0, {folder!r})
import alexnet

for name, preset in alexnet.PRESETS.items():
    alexnet.PRESETS[name] = replace(preset, hidden=32)
sys.exit(alexnet.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_starts_at_full_scale(name, shards, full, monkeypatch):
    """224x224 from prepared shards, three steps of eight pictures for each of its arms. fc6 and fc7
    are narrow: making and saving their 55 million weights would be half of the time."""
    (full / "narrow.py").write_text(NARROW.format(folder=str(running.ALEXNET.parent)))
    monkeypatch.setattr(running, "ALEXNET", full / "narrow.py")
    monkeypatch.chdir(full)
    data = ["--data", str(shards), "--more-data", str(shards)]
    steps = ["--", "--epochs", "1", "--batch-size", "8", "--limit-batches", "3", "--workers", "0"]
    command = ["run", name, "--scale", "full", "--seeds", "1", "--out", str(full / "paper"), *data]
    assert claims.main(command + steps) == 0
    lines = running.Book(full / "paper" / "runs.jsonl").lines
    jobs = [job for _, _, job in plan(name, "full", 1, steps[1:]).jobs(lines)]
    assert all(job.command() in lines for job in jobs)
    about = next(iter(lines.values()))
    assert 0 <= about["top1_error"] <= 100 and "--preset paper" in about["command"]
