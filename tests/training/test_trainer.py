"""The loop: what it learns, when it stops, what it says, and that going on changes nothing."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from helpers import Net, make_trainer

import tinynet
import tinynet.functional as F
from tinynet import Function, nn
from tinynet.errors import CheckpointError
from tinynet.optim import SGD, Adam
from tinynet.optim.lr_scheduler import Cosine, DivideOnPlateau
from tinynet.tensors import tensor
from tinynet.training import checkpoint as files
from tinynet.training.inputs import Inputs
from tinynet.training.measure import Measure
from tinynet.training.metrics import read_metrics, write_config
from tinynet.training.replay import first_nonfinite, replay_test
from tinynet.training.report import write_report
from tinynet.training.saving import TrainingError
from tinynet.training.task import Classification, Task
from tinynet.training.trainer import Trainer


def weights(trainer):
    return {name: array.tobytes() for name, array in trainer.model.state_dict().items()}


def at_step(trainer, step, action):
    """Lets `action` happen right after training batch number `step`."""
    train_step = trainer._train_step

    def then_act(batch):
        train_step(batch)
        if trainer.step + 1 == step:
            action()

    trainer._train_step = then_act
    return trainer


def test_it_learns(tmp_path):
    trainer = make_trainer(tmp_path, epochs=12, lr=0.1, schedule=None)
    assert trainer.fit() == "done"
    tests = [line for line in read_metrics(tmp_path) if line["kind"] == "test"]
    assert [line["epoch"] for line in tests] == list(range(1, 13))
    assert tests[-1]["loss"] < tests[0]["loss"]
    assert trainer.best["top1_error"] <= 10  # chance is 75
    assert trainer.best["top1_error"] == min(line["top1_error"] for line in tests)
    best = files.load(tmp_path / files.BEST)
    assert best.state["step"] == trainer.best["step"]


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "time"])
def test_stopped_and_resumed_is_as_if_undisturbed(how, tmp_path):
    quiet = make_trainer(tmp_path / "quiet")
    quiet.fit()
    stopped = make_trainer(tmp_path / "stopped")
    if how == "time":
        stopped.max_minutes = 1e9
        at_step(stopped, 8, lambda: setattr(stopped, "max_minutes", 1e-9))
    else:
        at_step(stopped, 8, lambda: os.kill(os.getpid(), signal.Signals[how]))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert stopped.fit() == how
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert stopped.saver.last == files.path_of(tmp_path / "stopped", 8)
    resumed = make_trainer(tmp_path / "stopped", seed=99)  # other first weights: all is read back
    resumed.train.seed = 3
    assert "step-00000008" in resumed.resume()
    assert resumed.fit() == "done"
    assert weights(resumed) == weights(quiet)
    for name in ("step", "loss", "top1_error", "lr", "health"):
        assert [line.get(name) for line in read_metrics(tmp_path / "stopped")] == [
            line.get(name) for line in read_metrics(tmp_path / "quiet")
        ]


def test_a_stop_in_the_middle_of_a_test(tmp_path):
    quiet = make_trainer(tmp_path / "quiet", epochs=2)
    quiet.fit()
    stopped = make_trainer(tmp_path / "stopped", epochs=2)
    epoch = stopped.test.epoch

    def interrupted(number):
        os.kill(os.getpid(), signal.SIGTERM)
        return epoch(number)

    stopped.test.epoch = interrupted
    assert stopped.fit() == "SIGTERM"
    assert [line["kind"] for line in read_metrics(tmp_path / "stopped")] == ["train"]
    resumed = make_trainer(tmp_path / "stopped", epochs=2)
    resumed.resume()
    resumed.fit()
    assert weights(resumed) == weights(quiet)


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    program = textwrap.dedent(
        """
        import os, signal, sys, time
        from pathlib import Path
        from helpers import make_trainer
        trainer = make_trainer(Path(sys.argv[1]))
        def hang(batch):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            print("still here", flush=True)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        trainer._train_step = hang
        trainer.fit()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stdout == "still here\n"


def test_resume_passes_over_a_damaged_checkpoint(tmp_path):
    quiet = make_trainer(tmp_path)
    quiet.fit()
    os.truncate(files.path_of(tmp_path, 18), 300)
    resumed = make_trainer(tmp_path)
    said = resumed.resume()
    assert "step-00000012" in said and "passing over step-00000018" in said
    assert (tmp_path / "step-00000018.safetensors.damaged").exists()
    resumed.fit()
    assert weights(resumed) == weights(quiet)


def test_resume_refuses_another_net(tmp_path):
    make_trainer(tmp_path, epochs=1).fit()
    other = make_trainer(tmp_path)
    other.saver.about = other.about | {"preset": "paper"}
    with pytest.raises(CheckpointError, match="preset 'paper', as this run has, got 'tiny'"):
        other.resume()
    other.saver.about = {"preset": "tiny", "classes": ["a", "b"]}
    with pytest.raises(CheckpointError, match="of 2 classes, as the data has, got one of 4"):
        other.resume()
    other.saver.about = {"preset": "tiny", "classes": [f"class {k}" for k in (0, 1, 3, 2)]}
    with pytest.raises(CheckpointError, match="with classes .*3', 'class 2'.*, as this run has"):
        other.resume()
    other.saver.about = make_trainer(tmp_path).about | {"border": 1}  # which no run had yet
    with pytest.raises(CheckpointError, match="with border 1, as this run has, got None"):
        other.resume()
    os.truncate(files.path_of(tmp_path, 6), 300)  # refused: nothing in the folder is renamed
    with pytest.raises(CheckpointError, match="step-00000000.*: expected a checkpoint with"):
        other.resume()
    assert not list(tmp_path.glob("*.damaged"))


def test_only_the_last_few_and_the_best_are_kept(tmp_path):
    make_trainer(tmp_path, epochs=5, keep=2).fit()
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert names == ["best.safetensors", "step-00000024.safetensors", "step-00000030.safetensors"]


def test_checkpoints_inside_epochs(tmp_path):
    make_trainer(tmp_path, epochs=1, checkpoint_batches=2, keep=99).fit()
    assert [files.load(p).state["batch"] for p in reversed(files.all_in(tmp_path))] == [0, 2, 4, 0]


def test_limit_batches(tmp_path):
    trainer = make_trainer(tmp_path, epochs=2, limit_batches=2)
    trainer.fit()
    assert trainer.step == 4
    assert trainer.model.training is False  # the last thing was a test


def test_the_paper_schedule_divides_when_the_error_stays(tmp_path):
    trainer = make_trainer(tmp_path, epochs=4, lr=0.01)
    schedule = DivideOnPlateau(trainer.optimizer, patience=0, min_lr=0.0005)
    trainer.schedule = trainer.saver.schedule = schedule
    trainer.optimizer.param_groups[0]["lr_scale"] = 0.0  # nothing is learnt: the error stays
    trainer.fit()
    rates = [line["lr"] for line in read_metrics(tmp_path) if line["kind"] == "test"]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.001, 0.0005])


def test_edits_hold_from_the_resume_on(tmp_path):
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit()
    before = trainer.model.conv.weight.numpy()
    trainer = make_trainer(tmp_path, epochs=3)
    trainer.optimizer = trainer.saver.optimizer = SGD(
        [
            {"name": "conv.all", "params": [trainer.model.conv.weight, trainer.model.conv.bias]},
            {"name": "fc.all", "params": [trainer.model.fc.weight, trainer.model.fc.bias]},
        ],
        0.05,
    )  # fmt: skip
    trainer.schedule.optimizer = trainer.optimizer
    trainer.edit([("lr", "0.5"), ("freeze", "conv"), ("momentum", "0.1")])
    trainer.fit()
    lines = [line for line in read_metrics(tmp_path) if line["kind"] == "train"]
    rates = sorted({line["lr"] for line in lines}, reverse=True)
    np.testing.assert_allclose(rates, [0.5, 0.05, 0.005])  # milestones still divide it
    again = make_trainer(tmp_path / "x")
    assert again.optimizer.param_groups[0]["lr_scale"] == 1.0
    state = files.newest_whole(tmp_path)[1].state
    assert [group["frozen"] for group in state["groups"]] == [True, False]
    assert [group["momentum"] for group in state["groups"]] == [0.1, 0.1]
    frozen = trainer.model.conv.weight.numpy()
    first = make_trainer(tmp_path / "y").model.conv.weight.numpy()
    np.testing.assert_array_equal(frozen, first)  # this trainer never read the old weights
    assert not np.array_equal(before, first)
    for wrong in ([("freeze", "conv9")], [("lr", "-1")], [("lr", "nan")]):
        with pytest.raises(ValueError, match="expected"):
            trainer.edit(wrong)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_not_finite_names_layer_and_checkpoint(tmp_path):
    trainer = make_trainer(tmp_path, lr=1e25)
    with pytest.raises(TrainingError) as error:
        trainer.fit()
    message = str(error.value)
    assert "\n" not in message
    assert "NaN or infinite" in message
    assert "conv" in message or "fc" in message
    assert str(files.path_of(tmp_path, 0)) in message
    for path in files.all_in(tmp_path):  # nothing bad was saved
        assert all(np.isfinite(array).all() for array in files.load(path).model.values())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_test_loss_that_is_not_finite_ends_the_run(tmp_path):
    """One batch: its loss is finite, and the weights after it are so large that the test's is not.
    The run would otherwise end well."""
    trainer = make_trainer(tmp_path, lr=1e25, epochs=1, limit_batches=1)
    test, training = trainer.task.test, []
    trainer.task.test = lambda model, batches: (
        training.append(model.training) or test(model, batches)
    )
    with pytest.raises(TrainingError, match="the loss of the test is NaN or infinite: ") as error:
        trainer.fit()
    assert training == [False, False]  # the second is the replay
    assert re.search(r": first in the output of \S+ in the test after epoch 1; ", str(error.value))
    assert str(files.path_of(tmp_path, 0)) in str(error.value)
    assert "best.safetensors" not in str(error.value)  # there is none
    assert not list(tmp_path.glob("best*")) and len(files.all_in(tmp_path)) == 1


def test_weights_that_are_nan_from_the_start(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.model.fc.weight.data[0, 0] = np.nan
    with pytest.raises(TrainingError, match="fc.weight holds NaN.*before the first batch"):
        trainer.fit()


class BadGradient(Function):
    """The identity, whose gradient is NaN."""

    @staticmethod
    def forward(ctx, x):
        return x.copy()

    @staticmethod
    def backward(ctx, dy):
        return dy * np.float32("nan")


TASK = Classification(Inputs("cpu", np.zeros((1, 1, 1), np.float32), 1), ["a", "b"])


class Poisoned(nn.Module):
    """Two layers with something in between that spoils the values or the gradient."""

    def __init__(self, spoil):
        self.first, self.second, self.spoil = nn.Linear(3, 3), nn.Linear(3, 2), spoil

    def forward(self, x):
        return self.second(self.spoil(self.first(x)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda x: F.relu(x), None),
        (lambda x: x * float("inf"), "the output of second"),
        (BadGradient.apply, "the gradient of first.bias"),
    ],
)
def test_where_a_nan_began(spoil, where, rng):
    model = Poisoned(spoil)
    optimizer = SGD(model.parameters(), 0.1)
    x = tensor(rng.normal(size=(4, 3)).astype(np.float32))
    labels = tensor(np.array([0, 1, 0, 1]))
    assert first_nonfinite(TASK, model, optimizer, (x, labels)) == where
    assert "forward" not in vars(model.first)  # the watch was taken off again
    model.first.weight.data[0, 0] = np.nan
    assert first_nonfinite(TASK, model, optimizer, (x, labels)) == "first.weight"
    x.data[1, 1] = np.inf
    assert first_nonfinite(TASK, model, optimizer, (x, labels)) == "the inputs"
    assert first_nonfinite(TASK, model, optimizer, ((x, x), labels)) == "the inputs"  # two devices


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_nan_of_the_loss_or_of_the_update(rng):
    x, labels = tensor(rng.normal(size=(4, 3)).astype(np.float32)), tensor(np.array([1, 1, 1, 1]))
    far = tensor(np.array([3e38, -3e38], np.float32))  # finite, but their difference is not
    model = Poisoned(F.relu)
    model.forward = lambda x: model.first(x)[:, :2] * 0 + far
    found = first_nonfinite(TASK, model, SGD(model.parameters(), 0.1), (x, labels))
    assert found == "the loss"
    model = Poisoned(F.relu)
    optimizer = SGD(model.parameters(), lr=3e38, weight_decay=3e38)
    assert first_nonfinite(TASK, model, optimizer, (x, labels)) == "first.weight, after its update"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda model, x: x * (1.0 if model.training else np.inf), "the output of second"),
        (lambda model, x: x, "the loss"),
    ],
)
def test_where_a_nan_of_a_test_began(spoil, where):
    model = Poisoned(lambda x: spoil(model, x))
    task = Task()
    task.test = lambda model, batches: {"loss": model(*batches).sum().item() * math.inf}
    model.eval()
    assert replay_test(task, model, [tensor(np.ones((1, 3), np.float32))]) == where
    task.test = lambda model, batches: {}
    assert replay_test(task, model, []) is None


def test_disk_full_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    fsync, left = os.fsync, [20]

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    trainer = make_trainer(tmp_path, checkpoint_batches=1, keep=99)
    with pytest.raises(
        TrainingError, match="No space left on device.*last good checkpoint is"
    ) as e:
        trainer.fit()
    named = Path(str(e.value).rsplit(" ", 1)[1])
    assert files.load(named).state["step"] > 0
    assert not list(tmp_path.glob("*" + files.PART))
    monkeypatch.undo()
    resumed = make_trainer(tmp_path)
    resumed.resume()
    assert resumed.fit() == "done"


def test_warning_when_nothing_is_learnt(tmp_path, capsys):
    trainer = make_trainer(tmp_path, stuck_after=8, advice="Try another seed.")
    for parameter in trainer.model.parameters():
        parameter.data[...] = 0  # all classes are equally likely, for good
    trainer.optimizer.lr = trainer.schedule.first_lr = 1e-9
    trainer.fit()
    said = capsys.readouterr().out
    assert said.count("warning: ") == 1
    assert "the loss has been 1.39" in said and "Try another seed." in said


def test_no_warning_when_something_is_learnt(tmp_path, capsys):
    make_trainer(tmp_path, epochs=6, lr=0.1, schedule=None, stuck_after=8).fit()
    assert "warning" not in capsys.readouterr().out


def test_the_health_line(tmp_path, capsys):
    trainer = make_trainer(tmp_path, epochs=1)
    trainer.fit()
    health = read_metrics(tmp_path)[-1]["health"]
    weight = trainer.model.conv.weight
    step = trainer.optimizer.last_step(weight)
    assert health["conv.weight"] == pytest.approx(
        [np.abs(weight.numpy()).mean(), np.abs(step.numpy()).mean()], rel=1e-5
    )
    assert "mean |w|, |step|: conv " in capsys.readouterr().out


def test_where_the_time_went(tmp_path):
    make_trainer(tmp_path, epochs=2).fit()
    first, second = (line["seconds"] for line in read_metrics(tmp_path) if line["kind"] == "test")
    assert all(0 < first[phase] <= second[phase] for phase in first)
    assert first.keys() == {"loading", "forward", "backward", "update", "testing"}


def test_two_logical_devices_save_what_one_does(tmp_path):
    """A net of two towers, on one device and on two: equal arrays in the checkpoints."""

    class Towers(Net):
        def __init__(self, second):
            super().__init__()
            self.fc.to(second)
            self.second = second

        def to(self, device):
            return self

        def forward(self, x):
            x = F.relu(self.conv(x)).flatten(1)
            return self.fc(self.dropout(x.to(self.second))).to("cpu")

    found = []
    for second in ("cpu:0", "cpu:1"):
        make_trainer(tmp_path / second[-1], model=lambda s=second: Towers(s), epochs=2).fit()
        last = files.newest_whole(tmp_path / second[-1])[1]
        found.append({k: v.tobytes() for k, v in (last.model | last.optimizer).items()})
    assert found[0] == found[1]


def test_a_schedule_that_changes_inside_epochs_survives_a_stop(tmp_path):
    def cosine(folder):
        trainer = make_trainer(folder)
        trainer.schedule = trainer.saver.schedule = Cosine(trainer.optimizer, 3)
        return trainer

    quiet = cosine(tmp_path / "quiet")
    quiet.fit()
    stopped = cosine(tmp_path / "stopped")
    at_step(stopped, 8, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert stopped.fit() == "SIGTERM"
    resumed = cosine(tmp_path / "stopped")
    resumed.resume()
    resumed.fit()
    assert weights(resumed) == weights(quiet)
    rates = [line["lr"] for line in read_metrics(tmp_path / "quiet") if line["kind"] == "train"]
    assert len(set(rates)) == len(rates) and rates == sorted(rates, reverse=True)


class Halves(Task):
    """A task of plain arrays and a net without classes: the mean of (w x)^2 is made small."""

    device = tinynet.device("cpu")
    measures = {"size": Measure("size of w", "m", 3)}
    measured = ("size",)
    unit = "rows"

    def inputs(self, batch):
        return (tensor(batch),)

    def loss(self, model, x):
        y = model(x)
        return (y * y).mean(), [np.abs(model.weight.data).mean()]

    def count(self, batch):
        return len(batch)

    def test(self, model, batches):
        losses = [self.loss(model, *self.inputs(batch))[0].item() for batch in batches]
        return {"loss": float(np.mean(losses)), "size": float(np.abs(model.weight.data).mean())}


class Rows:
    """Four batches of eight rows."""

    batch_size = 8

    def __len__(self):
        return 4

    def epoch(self, epoch, start=0):
        rng = np.random.default_rng(epoch)
        yield from rng.normal(size=(4, 8, 3)).astype(np.float32)[start:]


def test_a_task_without_pictures_or_classes(tmp_path, capsys):
    write_config(tmp_path, {"data": None}, "a line", Halves())
    model = nn.Linear(3, 1)
    optimizer = Adam(model.parameters(), 0.05)
    trainer = Trainer(
        model, optimizer, Rows(), Rows(), Halves(), tmp_path, epochs=3, about={}, log_every=2
    )
    assert trainer.fit() == "done"
    tests = [line for line in read_metrics(tmp_path) if line["kind"] == "test"]
    assert len(tests) == 3 and {"loss", "size"} <= tests[-1].keys()
    # the lowest: the figure of `best_by`
    assert trainer.best["loss"] == min(line["loss"] for line in tests)
    assert "size of w 0." in capsys.readouterr().out
    assert "size of w, m" in write_report(tmp_path).read_text()
    other = nn.Linear(3, 1)
    again = Trainer(
        other, Adam(other.parameters(), 0.05), Rows(), Rows(), Halves(), tmp_path,
        epochs=3, about={},
    )  # fmt: skip
    again.resume()
    assert again.step == 12 and again.best == trainer.best


def test_the_optimiser_of_another_net_is_refused(tmp_path):
    """It was a bare KeyError, at the end of the first epoch."""
    one, other = nn.Linear(3, 1), nn.Linear(3, 1)
    for parameters in (other.parameters(), [*one.parameters(), other.bias]):
        optimizer = Adam(parameters, 0.05)
        with pytest.raises(ValueError, match="Trainer: expected .* make it from model.parameters"):
            Trainer(one, optimizer, Rows(), Rows(), Halves(), tmp_path, epochs=1, about={})
