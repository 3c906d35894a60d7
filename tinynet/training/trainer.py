"""The loop: from a network, its pictures and an optimiser to a trained network.

What it promises: a run killed at any moment and resumed ends with the bits of one that was never
disturbed; a checkpoint is whole or absent; whatever ends a run names the last good checkpoint.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinynet.functional as F
from tinynet import random
from tinynet.errors import CheckpointError, TinynetError
from tinynet.tensor import Tensor
from tinynet.training import checkpoint as files
from tinynet.training.checkpoint import Checkpoint
from tinynet.training.diagnose import first_nonfinite
from tinynet.training.evaluate import evaluate, rank_of_truth
from tinynet.training.inputs import Inputs
from tinynet.training.metrics import MetricsLog
from tinynet.training.signals import StopSignals
from tinynet.training.stopwatch import Stopwatch


class TrainingError(TinynetError, RuntimeError):
    """A run that cannot go on; the message names the cause and the last good checkpoint."""


class NotFiniteError(ArithmeticError):
    """The loss, or a weight about to be saved, is NaN or infinite."""


class Trainer:
    """Trains `model` on `train` and tests it on `test` after every epoch.

    model      any Module with model(x) -> logits (N, classes), on the device of `inputs`
    optimizer  an optim.SGD over its parameters
    train,test data.Loader: `epoch(e, start)` gives Batches, `len` how many
    inputs     makes the net's input of a Batch
    out        the run's folder, which must exist
    about      what must be the same when a checkpoint is loaded again (JSON): "classes", a list of
               names, at least
    schedule   a lr_scheduler, or None for a constant rate
    keep       how many of the newest checkpoints stay, besides the best
    checkpoint_batches, checkpoint_minutes
               save also inside an epoch, so often
    max_minutes, limit_batches
               for trials: end after so long; train and test on so many batches an epoch
    log_every  batches a line of metrics.jsonl stands for
    stuck_after batches at a loss of ln(classes) before a warning
    """

    def __init__(
        self,
        model,
        optimizer,
        train,
        test,
        inputs: Inputs,
        out: Path,
        *,
        epochs: int,
        about: dict,
        schedule=None,
        keep: int = 3,
        checkpoint_batches: int | None = None,
        checkpoint_minutes: float | None = 10.0,
        max_minutes: float | None = None,
        limit_batches: int | None = None,
        log_every: int = 50,
        stuck_after: int = 500,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.train, self.test, self.inputs = train, test, inputs
        self.out, self.epochs, self.about, self.keep = Path(out), epochs, about, keep
        self.checkpoint_batches, self.checkpoint_minutes = checkpoint_batches, checkpoint_minutes
        self.max_minutes, self.limit_batches = max_minutes, limit_batches
        self.log_every, self.stuck_after = log_every, stuck_after
        self.batches = min(len(train), limit_batches or len(train))  # an epoch
        self.epoch = self.batch = self.step = 0  # epochs, batches in this one, batches in all
        self.best = {"top1_error": math.inf, "step": -1}
        self.last_saved: Path | None = None
        self.watch = Stopwatch([parameter.device for parameter in model.parameters()])
        self._metrics_size = 0
        self._stuck = 0  # batches in a row at a loss of ln(classes)
        self._warned = False
        # sums since the last line of metrics: loss, wrong pictures in %, batches. They stay on the
        # device: reading them makes the program wait for it.
        self._totals = self._upload([0.0, 0.0, 0.0])

    # ------------------------------------------------------------------ the story of a run

    def fit(self) -> str:
        """Trains to the last epoch. Returns why it ended: "done", "time", "SIGINT" or "SIGTERM".

        Raises TrainingError when the loss is no longer finite, or nothing can be saved any more.
        """
        files.remove_parts(self.out)
        self._started = self._saved_at = self._line_at = self._read_at = time.monotonic()
        self._line_step = self.step  # a resumed run's first line covers less time than batches
        try:
            with (
                StopSignals() as self._signals,
                contextlib.closing(MetricsLog(self.out, self._metrics_size)) as self._log,
                self._progress() as self._bar,
            ):
                return self._run()
        except NotFiniteError as error:
            raise self._explained(error) from None
        except OSError as error:
            raise TrainingError(f"{error}; {self._last_good()}") from error

    def _run(self) -> str:
        if self.step == 0:
            self._save()  # finds out at once whether the folder can be written
        while self.epoch < self.epochs:
            self._train_epoch()
            if not self._stopping():
                self._finish_epoch()
            if self._stopping():
                self._save()
                return self._stopping()
        return "done"

    def _train_epoch(self) -> None:
        """Trains from the batch it stands at to the epoch's end, or until it is told to stop."""
        self.model.train()
        self._bar.set_description(f"epoch {self.epoch + 1}/{self.epochs}")
        with contextlib.closing(self.train.epoch(self.epoch, start=self.batch)) as batches:
            while self.batch < self.batches and not self._stopping():
                self.watch.begin(self.step)
                batch = next(batches)
                self.watch.lap("loading")
                self._train_step(batch)
                self.batch += 1
                self.step += 1
                self._bar.update(len(batch.labels))
                self._report()
                if self._checkpoint_due():
                    self._save()

    def _train_step(self, batch) -> None:
        x, labels = self.inputs(batch)
        logits = self.model(x)
        loss = F.cross_entropy(logits, labels)
        self.watch.lap("forward")
        self.optimizer.zero_grad()
        loss.backward()
        self.watch.lap("backward")
        self.optimizer.step()
        device = self.inputs.device
        with device.activate():
            wrong = rank_of_truth(device.xp, logits.data, labels.data) > 0
            self._totals[0] += loss.data
            self._totals[1] += 100 * wrong.mean()
            self._totals[2] += 1
        self.watch.lap("update")

    def _finish_epoch(self) -> None:
        """Tests, writes it down, steps the schedule, saves. Leaves early if told to stop."""
        began = time.perf_counter()
        self._bar.set_description(f"epoch {self.epoch + 1}/{self.epochs}, testing")
        self.model.eval()
        with contextlib.closing(self.test.epoch(0)) as batches:
            few = itertools.islice(batches, self.limit_batches)
            result = evaluate(
                [self.model], self._unless_stopped(few), self.inputs, self.about["classes"]
            )
        if self._stopping():
            return
        took = time.perf_counter() - began
        self.watch.seconds["testing"] += took
        self._line_at += took  # pictures a second are those of training
        health = self.health()
        rate = self.optimizer.lr
        self.epoch += 1
        self.batch = 0
        if self.schedule is not None:
            self.schedule.step(self.epoch, {"top1_error": result.top1_error})
        self._log.write(
            "test",
            self.step,
            epoch=self.epoch,
            loss=result.loss,
            top1_error=result.top1_error,
            top5_error=result.top5_error,
            lr=rate,
            health=health,
            seconds=dict(self.watch.seconds),
        )
        is_best = result.top1_error < self.best["top1_error"]
        if is_best:
            self.best = {
                "top1_error": result.top1_error,
                "top5_error": result.top5_error,
                "epoch": self.epoch,
                "step": self.step,
            }
        tqdm.write(
            f"epoch {self.epoch}/{self.epochs}: test loss {result.loss:.4f}, "
            f"top-1 error {result.top1_error:.2f} %, top-5 error {result.top5_error:.2f} %, "
            f"lr {rate:.2g}" + (" (best so far)" if is_best else "")
        )
        tqdm.write(
            "  mean |w|, |step|: "
            + "  ".join(
                f"{name.removesuffix('.weight')} {weight:.1e} {step:.1e}"
                for name, (weight, step) in health.items()
                if not name.endswith(".bias")
            )
        )
        self._save()

    def health(self) -> dict[str, tuple[float, float]]:
        """Mean |w| and mean |last step| of every layer, as the program of 2012 logged at each test.

        A layer is a named group of the optimiser's, or a parameter of a group without a name. A
        step near 1e-3 of the weights is sound; 0 is a dead or frozen layer.
        """
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        layers: dict[str, list] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                layers.setdefault(group["name"] or names[parameter], []).append(parameter)
        return {
            name: (_mean_abs(layer), _mean_abs([self.optimizer.last_step(p) for p in layer]))
            for name, layer in layers.items()
        }

    # ------------------------------------------------------------------ reading the device

    def _report(self) -> None:
        """Once a second, and where a line of metrics is due: reads the sums from the device."""
        line_due = self.step % self.log_every == 0
        now = time.monotonic()
        if not line_due and now - self._read_at < 1.0:
            return
        self._read_at = now
        totals = self.inputs.device.download(self._totals)
        if not math.isfinite(totals[0]):
            raise NotFiniteError("the loss is NaN or infinite")
        loss, error = totals[:2] / totals[2]
        self._bar.set_postfix_str(f"loss {loss:.3f}, top-1 error {error:.1f} %")
        if not line_due:
            return
        pictures = (self.step - self._line_step) * self.train.batch_size
        self._log.write(
            "train",
            self.step,
            epoch=round(self.epoch + self.batch / self.batches, 6),
            loss=loss,
            top1_error=error,
            lr=self.optimizer.lr,
            images_per_second=round(pictures / (now - self._line_at), 1),
        )
        self._line_at, self._line_step = now, self.step
        self._totals = self._upload([0.0, 0.0, 0.0])
        self._watch_for_stuck(loss, int(totals[2]))

    def _watch_for_stuck(self, loss: float, batches: int) -> None:
        """Warns, once, when the net has learnt nothing for long."""
        chance = math.log(len(self.about["classes"]))
        self._stuck = self._stuck + batches if abs(loss - chance) < 0.01 * chance else 0
        if self._stuck >= self.stuck_after and not self._warned:
            self._warned = True
            tqdm.write(
                f"warning: for {self._stuck} batches the loss has been ln(classes) = {chance:.2f}: "
                "the net says the same of every picture. The paper's first weights often do this. "
                "Try --preset cfg145 (larger weights in conv3 to conv5), another --lr (a third, "
                "or three times as much), or another --seed."
            )

    # ------------------------------------------------------------------ stopping and saving

    def _stopping(self) -> str | None:
        """Why the run is to end before its last epoch, or None."""
        if self._signals.received is not None:
            return self._signals.received.name
        if self.max_minutes and time.monotonic() - self._started > 60 * self.max_minutes:
            return "time"
        return None

    def _unless_stopped(self, batches: Iterable) -> Iterator:
        for batch in batches:
            if self._stopping():
                return
            yield batch

    def _checkpoint_due(self) -> bool:
        if self.checkpoint_batches and self.step % self.checkpoint_batches == 0:
            return True
        minutes = self.checkpoint_minutes
        return bool(minutes) and time.monotonic() - self._saved_at > 60 * minutes

    def _save(self) -> None:
        """Writes a checkpoint, lets it be the best if it is, and drops the oldest."""
        model = self.model.state_dict()
        for name, array in model.items():
            if not np.isfinite(array).all():
                raise NotFiniteError(f"{name} holds NaN or infinite values")
        path = files.path_of(self.out, self.step)
        files.save(
            path,
            Checkpoint(
                model, self.optimizer.state_dict(), {"mean": self.inputs.mean}, self._state()
            ),
        )
        self.last_saved = path
        self._saved_at = time.monotonic()
        self._keep_best()
        files.prune(self.out, self.keep)

    def _keep_best(self) -> None:
        if self.best["step"] == self.step:
            files.keep_best(files.path_of(self.out, self.step))

    def _state(self) -> dict:
        return {
            "about": self.about,
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "random": random.get_state(),
            "lr": self.optimizer.lr,
            "groups": [
                {key: value for key, value in group.items() if key != "params"}
                for group in self.optimizer.param_groups
            ],
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "totals": self.inputs.device.download(self._totals).tolist(),
            "best": self.best,
            "stuck": self._stuck,
            "seconds": self.watch.seconds,
            "metrics_size": self._log.sync(),
        }

    # ------------------------------------------------------------------ going on

    def resume(self) -> str:
        """Goes back to the newest whole checkpoint of the folder; returns a line that says so.

        Raises CheckpointError if there is none, or if it is of another net or other classes.
        """
        path, checkpoint, damaged = files.newest_whole(self.out)
        check_same(checkpoint, self.about, path)
        for each in damaged:  # out of the way, but not lost
            each.rename(each.with_name(each.name + ".damaged"))
        self._restore(checkpoint)
        self.last_saved = path
        self._keep_best()  # a kill may have come between the checkpoint and its second name
        passed = f" (passing over {', '.join(p.name for p in damaged)}: damaged)" if damaged else ""
        return f"resuming from {path}{passed}: epoch {self.epoch + 1}, batch {self.batch}"

    def edit(self, edits: list[tuple[str, str]]) -> None:
        """Changes rates in the middle of a run, as it was done in 2012: see runs.parse_edits.

        lr=X sets the rate (later milestones still divide it), momentum=X and weight_decay=X those
        of all groups, freeze=NAME stops the groups whose name begins with NAME, thaw=NAME lets
        them learn again at the common rate. Raises ValueError for a value that makes no sense.
        """
        for name, value in edits:
            if name in ("freeze", "thaw"):
                groups = [g for g in self.optimizer.param_groups if g["name"].startswith(value)]
                if not groups:
                    known = ", ".join(group["name"] for group in self.optimizer.param_groups)
                    raise ValueError(f"--set {name}={value}: the layers are {known}")
                for group in groups:
                    group["lr_scale"] = 0.0 if name == "freeze" else 1.0
                continue
            number = float(value)
            if not 0 <= number < math.inf:
                raise ValueError(f"--set {name}={value}: a number of at least 0 was expected")
            if name == "lr":
                self.optimizer.lr = number
                if self.schedule is not None:
                    self.schedule.set_lr(number, self.epoch)
            else:
                for group in self.optimizer.param_groups:
                    group[name] = number

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.optimizer.lr = state["lr"]  # a schedule knows it too, but there may be none
        for group, saved in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update(saved)
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        random.set_state(state["random"])
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self._totals = self._upload(state["totals"])
        self.best, self._stuck = state["best"], state["stuck"]
        self.watch.seconds.update(state["seconds"])
        self._metrics_size = state["metrics_size"]

    def _explained(self, error: NotFiniteError) -> TrainingError:
        """Replays from the last good checkpoint, bit for bit, to find where the trouble began."""
        if self.last_saved is None:
            return TrainingError(f"{error}, before the first batch; {self._last_good()}")
        seen_at = self.step
        tqdm.write(f"{error}: replaying from {self.last_saved} to find where it began")
        self._restore(files.load(self.last_saved))
        self.model.train()
        where = None
        with contextlib.closing(self.train.epoch(self.epoch, start=self.batch)) as batches:
            while where is None and self.step <= seen_at and self.batch < self.batches:
                x, labels = self.inputs(next(batches))
                where = first_nonfinite(self.model, self.optimizer, x, labels)
                self.step += 1
                self.batch += 1
        found = f"first in {where}" if where else "though not when replayed"
        return TrainingError(
            f"{error}: {found}, epoch {self.epoch + 1}, batch {self.batch}. {self._last_good()}; "
            f"a smaller rate may carry it past: --resume --out {self.out} --set lr=..."
        )

    def _last_good(self) -> str:
        if self.last_saved is None:
            return "nothing had been saved yet"
        return f"the last good checkpoint is {self.last_saved}"

    # ------------------------------------------------------------------ small things

    def _progress(self) -> tqdm:
        """One bar over the whole run, shown on a terminal only."""
        batch_size = self.train.batch_size
        return tqdm(
            total=self.epochs * self.batches * batch_size,
            initial=self.step * batch_size,
            unit=" pictures",
            unit_scale=True,
            disable=None,
            dynamic_ncols=True,
        )

    def _upload(self, numbers: list[float]):
        device = self.inputs.device
        with device.activate():
            return device.upload(np.array(numbers, np.float64))


def check_same(checkpoint: Checkpoint, about: dict, path: Path) -> None:
    """Raises CheckpointError if a checkpoint is not of the net and the classes in `about`."""
    saved = checkpoint.state["about"]
    for key, wanted in about.items():
        if saved.get(key) != wanted:
            if key == "classes" and len(saved[key]) != len(wanted):
                raise CheckpointError(
                    f"{path} knows {len(saved[key])} classes, the data has {len(wanted)}"
                )
            raise CheckpointError(
                f"{path} was made with {key} {saved.get(key)!r}, this run has {wanted!r}"
            )


def _mean_abs(tensors: list[Tensor]) -> float:
    """The mean of |value| over several tensors."""
    total = 0.0
    for tensor in tensors:
        with tensor.device.activate():
            total += float(abs(tensor.data).sum(dtype=np.float64))
    return total / sum(tensor.size for tensor in tensors)
