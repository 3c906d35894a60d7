"""The loop beside its figures: what it asks of the clock, the device, the task and the bar."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from told import BATCHES, Rows, Told, make, of_kind, set_clock, stop_at

import tinynet
from tinynet import nn
from tinynet.devices.cpu import CpuDevice
from tinynet.optim.lr_scheduler import Constant
from tinynet.parallel.ranks import Ranks
from tinynet.training import checkpoint as files
from tinynet.training import console
from tinynet.training.measure import Measure
from tinynet.training.saving import TrainingError
from tinynet.training.trainer import LINES


@pytest.fixture
def clock(monkeypatch):
    return set_clock(monkeypatch)


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is made: (total, initial, the counts it was told)."""
    made = []

    class Bar:
        disable = False

        def __init__(self, total, initial, **options):
            self.told = []
            made.append((total, initial, self.told))

        def update(self, count):
            self.told.append(count)

        def say(self, *text):
            pass

        set_description_str = set_postfix_str = close = say
        write = staticmethod(say)

    monkeypatch.setattr(console, "tqdm", Bar)
    return made


class Short(Rows):
    """The last batch of an epoch is a single row."""

    def epoch(self, epoch, start=0):
        for number, batch in enumerate(super().epoch(epoch, start), start + 1):
            yield batch if number < BATCHES else batch[:1]


def test_the_bar_of_a_second_epoch_and_of_a_short_batch(tmp_path, bars):
    """Where it begins is what all epochs before have seen; it goes on by what a batch holds."""
    trainer = make(tmp_path, Told())
    trainer.train = Short()
    stop_at(trainer, 7)
    again = make(tmp_path, Told())
    again.train = Short()
    again.resume()
    again.fit()
    assert bars == [(40, 0, [4, 4, 4, 4, 1, 4, 4]), (40, 28, [4, 4, 1])]


def test_the_evaluation_is_kept_of_the_best_test_alone(tmp_path):
    """And every epoch's picture of the net, of whatever test."""
    kept, seen = [], []

    class Keeping(Told):
        def save(self, folder):
            kept.append((folder, len(self.tests)))

        def after_epoch(self, model, folder, epoch):
            seen.append((folder, epoch, model.training))

    make(tmp_path, Keeping([30.0, 40.0, 20.0, 20.0, 25.0]), epochs=5).fit()
    assert kept == [(tmp_path, 4), (tmp_path, 2)]  # tests still to come
    assert seen == [(tmp_path, epoch, False) for epoch in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("length", "limit", "log_every", "batches", "lines"),
    [
        (3 * LINES, None, None, 3 * LINES, 3),
        (10_000, None, None, 10_000, 50),
        (10_000, 2 * LINES, None, 2 * LINES, 2),  # of what is trained on, not of what there is
        (10, 99, None, 10, 1),
        (10_000, 40, 7, 40, 7),
    ],
)
def test_an_epoch_has_so_many_batches_and_lines(length, limit, log_every, batches, lines, tmp_path):
    class Long(Rows):
        def __len__(self):
            return length

    made = make(tmp_path, Told(), limit_batches=limit, log_every=log_every, train=Long())
    assert (made.batches, made.log_every) == (batches, lines)


def test_the_device_is_read_once_a_second(tmp_path, clock, monkeypatch):
    """Each reading waits for the device: at four batches a second, one in four of them may."""
    trainer, reads = make(tmp_path, Told(), epochs=8, log_every=99, checkpoint_minutes=None), []
    download, step, save = CpuDevice.download, trainer._train_step, trainer._save

    def read(device, array):
        if array is trainer._totals:
            reads.append(clock.now)
        return download(device, array)

    monkeypatch.setattr(CpuDevice, "download", read)
    trainer._train_step = lambda batch: (step(batch), setattr(clock, "now", clock.now + 0.25))[0]
    trainer._save = lambda: (save(), reads.pop())  # which reads them, too
    trainer.fit()
    assert reads == [1001.0 + second for second in range(10)]


def test_a_test_is_left_at_the_next_batch_when_told_to_stop(tmp_path):
    """Its other batches are not waited for."""
    trainer, given = make(tmp_path, Told()), []

    class Counted(Rows):
        def epoch(self, epoch, start=0):
            for batch in super().epoch(epoch, start):
                given.append(batch)
                yield batch

    trainer.test = Counted()
    trainer._stopping = lambda: "SIGTERM" if len(given) >= 2 else None
    trainer.task.test = lambda model, batches: {"loss": 1.0, "error": float(len(list(batches)))}
    assert trainer.fit() == "SIGTERM"
    assert len(given) == 2 and not of_kind(tmp_path, "test")


def test_the_best_step_is_counted_in_batches_trained(tmp_path):
    """Not in batches there are."""
    trainer = make(tmp_path, Told([30.0, 20.0]), limit_batches=3)
    trainer.fit()
    assert trainer.best["step"] == 6
    assert files.load(tmp_path / files.BEST).state["step"] == 6


class Passing(Told):
    """Told, whose batches lack rows, others in tests than in training."""

    testing = False

    def __init__(self, train, test):
        super().__init__()
        self.places = {"train": train, "test": test}

    def damaged(self, batch):
        split = "test" if self.testing else "train"
        return {place: f"{split} row {place}" for place in self.places[split]}

    def test(self, model, batches):
        self.testing = True
        try:
            return super().test(model, batches)
        finally:
            self.testing = False


@pytest.mark.parametrize("stop", [None, 2, 5, 7])
def test_what_is_left_out_is_counted_by_split(stop, tmp_path, capsys):
    """Row 3 of training is not row 3 of the tests; a resume forgets none and counts none twice."""
    for end in (stop, None) if stop else (None,):
        trainer = make(tmp_path, Passing([3, 4], [3, 9, 8]), skip_damaged=5, log_every=1)
        if end is None and stop:
            trainer.resume()
        stop_at(trainer, end) if end else trainer.fit()
    assert trainer.damaged == {"train": [3, 4], "test": [3, 9, 8]}
    lines = of_kind(tmp_path, "train")
    assert [line["damaged"] for line in lines] == [2] * 5 + [5] * 5
    assert [line["damaged"] for line in of_kind(tmp_path, "test")] == [5, 5]
    said = capsys.readouterr().out
    for split, place in (("train", 3), ("train", 4), ("test", 3), ("test", 9), ("test", 8)):
        assert said.count(f"left out: {split} row {place}\n") == 1
    with pytest.raises(TrainingError, match="test row 8; expected at most 4 .* this is number 5"):
        make(tmp_path, Passing([3, 4], [3, 9, 8]), skip_damaged=4).fit()


@pytest.mark.parametrize("minutes", [None, 0, 1e9])
def test_without_minutes_no_clock_saves(minutes, tmp_path, clock):
    trainer = make(tmp_path, Told(), keep=99, checkpoint_minutes=minutes)
    step = trainer._train_step
    trainer._train_step = lambda batch: (step(batch), setattr(clock, "now", clock.now + 1e6))[0]
    trainer.fit()
    saved = [files.load(path).state["step"] for path in files.all_in(tmp_path)]
    assert saved == [10, 5, 0]


@pytest.mark.parametrize("ahead", [-1e6, 1e6])
def test_the_clocks_of_two_hosts_begin_at_different_times(ahead, tmp_path, clock):
    """All ranks save at the same steps, by rank 0's clock, and time is up when it is."""

    class Other(Ranks):
        """The second of two: its clock is ahead of rank 0's."""

        size = 2

        def gather(self, value):
            return [value - ahead if isinstance(value, float) else value, value]

    for name, minutes, end in (("a", None, "done"), ("b", 2.75, "time")):
        trainer = make(
            tmp_path / name, Told(), clock, keep=99, checkpoint_minutes=0.5, max_minutes=minutes
        )
        trainer.ranks = Other()
        assert trainer.fit() == end
        saved = [files.load(path).state["step"] for path in files.all_in(tmp_path / name)]
        assert saved[::-1] == ([0, 4, 5, 9, 10] if end == "done" else [0, 4, 5, 7])


@pytest.mark.parametrize("reasons", [[None, None, "SIGHUP"], [None, "SIGTERM", "time"], ["time"]])
def test_all_ranks_stop_for_the_first_reason_of_any(reasons, tmp_path):
    """No rank waits for another: what one was told, all of them know."""

    class Ranked(Ranks):
        size = len(reasons)

        def gather(self, value):
            return reasons if value is None else [value] * self.size

    trainer = make(tmp_path, Told())
    trainer.ranks = Ranked()
    assert trainer.fit() == next(reason for reason in reasons if reason)
    assert trainer.step == 0


def test_how_near_to_chance_is_stuck(tmp_path):
    """1 % for a line of 50 batches or more; fewer vary more, as 1 / sqrt(batches)."""
    for batches, near in ((1, 0.0707), (2, 0.05), (50, 0.01), (200, 0.01)):
        for factor, stuck in ((0.98, True), (1.02, False)):
            for sign in (1, -1):
                trainer = make(tmp_path, Told(chance=4.0))
                trainer._watch_for_stuck(4.0 * (1 + sign * factor * near), batches)
                assert trainer._stuck == (batches if stuck else 0)


def test_a_figure_that_only_training_has(tmp_path, capsys):
    """And one that only tests have: each is told where it is found."""

    class Both(Told):
        measures = Told.measures | {"speed": Measure("speed")}
        measured = ("speed",)

    make(tmp_path, Both([30.0, 20.0])).fit()
    assert {"speed"} == set(of_kind(tmp_path, "train")[0]) & set(Both.measures)
    assert {"error", "size"} == set(of_kind(tmp_path, "test")[0]) & set(Both.measures)
    state = files.load(tmp_path / files.BEST).state
    assert state["best"] == {"error": 20.0, "size": 0.25, "epoch": 2, "step": 10}
    assert "error 20.0 %, size 0.250 m, lr" in capsys.readouterr().out


def test_what_each_phase_is_the_time_of(tmp_path):
    """In the order of the work, and nothing between a phase and its lap. What could not be read is
    part of the loading.
    """
    events = []

    class Given(Rows):
        def epoch(self, epoch, start=0):
            for batch in super().epoch(epoch, start):
                events.append("batch")
                yield batch

    class Slow(Told):
        def damaged(self, batch):
            events.append("damaged")
            return {}

        def loss(self, model, x):
            events.append("loss")
            return super().loss(model, x)

    trainer = make(tmp_path, Slow(), epochs=1, limit_batches=1, train=Given())
    watch, steps, optimizer = trainer.watch, trainer.steps, trainer.optimizer
    backward, step = steps.backward, optimizer.step
    trainer.steps = SimpleNamespace(
        share=steps.share, backward=lambda *a: (events.append("backward"), backward(*a))[1]
    )
    optimizer.step = lambda: (events.append("step"), step())[1]
    watch.begin = lambda number: events.append(f"begin {number}")
    watch.lap = lambda phase: events.append(f"to {phase}")
    trainer.fit()
    assert events == [
        *("begin 0", "batch", "damaged", "to loading", "loss", "to forward"),
        *("backward", "to backward", "step", "to update"),
        *["damaged"] * BATCHES,  # of the test, which is no batch's time
    ]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_replay_goes_no_further_than_the_run(tmp_path):
    """From a checkpoint inside the epoch: two batches since then, and the one that was bad."""
    trainer = make(tmp_path, Told(), log_every=1, checkpoint_batches=2, epochs=1)
    step, epoch, given = trainer._train_step, trainer.train.epoch, []
    trainer.train.epoch = lambda *args, **kw: given.append(epoch(*args, **kw)) or given[-1]

    def spoiled(batch):
        count = step(batch)
        if trainer.step == 3:  # the fourth; its loss is told as NaN, and only this once
            trainer._totals[0] = np.nan
            trainer.task.seen.clear()
        return count

    trainer._train_step = spoiled
    with pytest.raises(TrainingError, match="though not when replayed, epoch 1, batch 4;"):
        trainer.fit()
    assert trainer.task.seen == [2.0, 3.0] and len(given) == 2
    assert {inspect.getgeneratorstate(each) for each in given} == {inspect.GEN_CLOSED}


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_0_alone_writes(rank, tmp_path):
    """The others read what it has written, and say what it says."""

    class Two(Ranks):
        size = 2

        def gather(self, value):
            return [value, value]

    make(tmp_path, Told([60.0, 30.0])).fit()
    (tmp_path / files.BEST).unlink()  # which rank 0 makes again
    stop_at(make(tmp_path / "other", Told()), 3)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    trainer = make(tmp_path, Told(), epochs=2)
    trainer.ranks = Two()
    trainer.ranks.rank = rank
    assert "all 2 epochs are done" in trainer.resume()
    assert trainer.saver.last == files.path_of(tmp_path, 10) and trainer.step == 10
    assert trainer.fit() == "done"
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert (files.BEST in after) == (rank == 0)
    assert rank == 0 or after == before


class Counting(Constant):
    """A schedule that knows how often it was asked: a user's own may depend on it."""

    steps = 0

    def step(self, epoch, metrics):
        self.steps += 1

    def state_dict(self):
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.steps = state["steps"]


@pytest.mark.parametrize("stops", [(), (1,), (3, 5, 6), (5, 5)])
def test_a_schedule_is_asked_once_a_batch(stops, tmp_path):
    """Whatever the number of resumes; the end of an epoch is asked with the figures of its test."""

    def made():
        trainer = make(tmp_path, Told())
        trainer.schedule = trainer.saver.schedule = Counting(trainer.optimizer)
        return trainer

    trainer = made()
    for number, stop in enumerate(stops):
        stop_at(trainer, stop)
        trainer = made()
        batch = f"epoch {1 + stop // 5 - (stop == 5)}, batch {5 if stop == 5 else stop % 5}"
        assert trainer.resume() == f"resuming from {files.path_of(tmp_path, stop)}: {batch}"
        assert trainer.saver.last == files.path_of(tmp_path, stop), number
    trainer.fit()
    assert trainer.schedule.steps == 10


def test_what_a_kill_left_is_removed_at_the_start(tmp_path):
    (tmp_path / "config.json.part").write_text("{")
    part = tmp_path / "step-00000009.safetensors.part"
    part.mkdir()
    (part / "half").write_bytes(b"1")
    make(tmp_path, Told()).fit()
    assert not list(tmp_path.glob("*.part"))


def test_all_batches_given_are_closed_whatever_ends_the_run(tmp_path):
    """Also by a task that holds on to what it was given: workers and threads end with them."""
    given = []

    class Holding(Told):
        def ahead(self, batches):
            given.append(batches)
            return batches

    make(tmp_path / "a", Holding()).fit()
    stop_at(make(tmp_path / "b", Holding()), 7)
    broken = make(tmp_path / "c", Holding())
    broken._report = lambda now: 1 / 0
    with pytest.raises(ZeroDivisionError):
        broken.fit()
    in_test = make(tmp_path / "d", Holding())
    in_test.task.test = lambda model, batches: (next(iter(batches)), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        in_test.fit()
    assert len(given) == 4 + 3 + 1 + 2
    assert {inspect.getgeneratorstate(each) for each in given} == {inspect.GEN_CLOSED}


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("other", [None, 1, 2])
def test_a_rank_with_another_net_ends_the_run_on_all_ranks(rank, other, tmp_path):
    """All of three see the same sums, and name the one whose weights are not rank 0's."""

    class Three(Ranks):
        size = 3

        def gather(self, value):
            if not isinstance(value, tuple):  # time, or a reason to stop
                return [value] * 3
            assert value[0] == self.name and len(value[1]) == 3  # with the buffer
            wrong = [each ^ 1 for each in value[1]]
            mine, its = (value[1], wrong) if rank != other else (wrong, value[1])
            return [(f"rank {k}", its if k == other else mine) for k in range(3)]

    net = nn.Linear(2, 1)
    net.seen = nn.Buffer(np.zeros(2, np.float32), tinynet.device("cpu"))
    trainer = make(tmp_path, Told(), model=net, epochs=1)
    trainer.ranks = Three()
    trainer.ranks.rank = rank
    if other is None:
        assert trainer.fit() == "done"
    else:
        with pytest.raises(TrainingError, match=f"^rank {other}: expected the weights of rank 0"):
            trainer.fit()
    assert (tmp_path / "metrics.jsonl").exists() == (rank == 0)  # which alone writes
