"""The loop: from a network, its data and an optimiser to a trained network.

What it promises: a run killed at any moment and resumed ends with the bits of one that was never
disturbed; a checkpoint is whole or absent; whatever ends a run names the last good checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.errors import DataError
from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.optim.lr_scheduler import Constant
from tinynet.tensors import Tensor
from tinynet.training import checkpoint as files
from tinynet.training.console import Console
from tinynet.training.metrics import MetricsLog, NoMetricsLog
from tinynet.training.replay import replay, replay_test
from tinynet.training.saving import NotFiniteError, Saver, TrainingError, edit, understand
from tinynet.training.signals import StopSignals
from tinynet.training.stopwatch import Stopwatch
from tinynet.training.task import Task

LINES = 20  # of metrics an epoch, at least: enough for a curve


class Trainer:
    """Trains `model` on `train` and tests it on `test` after every epoch.

    model      any Module
    optimizer  an optim.Optimizer over its parameters
    train,test what gives batches: `epoch(e, start)` an iterator, `len` how many, `batch_size`
    task       what a batch is, its loss, its measures
    out        the run's folder, which must exist
    about      what must be the same when a checkpoint is loaded again (JSON)
    schedule   a schedule of optim.lr_scheduler; None for a constant rate
    story      (epoch, name, value): what saving.edit changes when so many epochs are over
    keep       how many of the newest checkpoints stay, besides the best
    checkpoint_batches, checkpoint_minutes
               save also inside an epoch, so often
    max_minutes, limit_batches
               for trials: end after so long; train on so many batches an epoch (tests are whole)
    skip_damaged
               how many examples that cannot be read may be left out, in training and tests together
    log_every  batches a line of metrics.jsonl stands for; None: 50, but at least LINES an epoch
    stuck_after
               batches at the loss of chance (Task.chance) before a warning that ends with `advice`

    Where several ranks share each batch (`task.steps`), all of them do the same, and rank 0 alone
    writes. What depends on a clock or a signal is agreed upon, so that no rank waits for another.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        train: Any,
        test: Any,
        task: Task,
        out: Path,
        *,
        epochs: int,
        about: dict,
        schedule: Any = None,
        story: Sequence[tuple[int, str, str]] = (),
        keep: int = 3,
        checkpoint_batches: int | None = None,
        checkpoint_minutes: float | None = 10.0,
        max_minutes: float | None = None,
        limit_batches: int | None = None,
        skip_damaged: int = 0,
        log_every: int | None = None,
        stuck_after: int = 500,
        advice: str = "",
    ) -> None:
        self.model, self.optimizer = model, optimizer
        if others := {*optimizer.state} - {*model.parameters()}:
            raise ValueError(
                f"Trainer: expected an optimiser of the model's parameters, got one with "
                f"{len(others)} of others; make it from model.parameters()"
            )
        self.schedule = Constant(optimizer) if schedule is None else schedule
        self.train, self.test, self.task = train, test, task
        self.story = list(story)
        understand(
            optimizer, [edit for _, *edit in self.story]
        )  # a mistake is found now, not later
        self.out, self.epochs, self.about = Path(out), epochs, about
        self.checkpoint_batches, self.checkpoint_minutes = checkpoint_batches, checkpoint_minutes
        self.max_minutes, self.limit_batches = max_minutes, limit_batches
        self.skip_damaged, self.stuck_after, self.advice = skip_damaged, stuck_after, advice
        self.steps, self.ranks = task.steps, task.steps.ranks
        self.saver = Saver(self.out, model, optimizer, self.schedule, about, task.arrays(), keep)
        self.batches = min(len(train), limit_batches or len(train))  # an epoch
        self.log_every = log_every or self.lines_every()
        self.damaged: dict[str, list[int]] = {"train": [], "test": []}  # those left out
        self.epoch = self.batch = self.step = 0  # epochs, batches in this one, batches in all
        self.best: dict[str, Any] = {task.best_by: math.inf, "step": -1}
        self.watch = Stopwatch([parameter.device for parameter in model.parameters()])
        self._metrics_size = 0
        self._stuck = 0  # batches in a row at the loss of chance
        self._warned = False
        self._edited = False  # rates that no checkpoint holds yet
        # Sums since the last line of metrics: the loss, what is measured, batches. They stay on the
        # device: reading them makes the program wait for it.
        self._totals = self._upload([0.0] * (len(task.measured) + 2))

    # ------------------------------------------------------------------ the story of a run

    def fit(self) -> str:
        """Train to the last epoch. Return why it ended: "done", "time", or a name of signals.STOPS.

        Raises TrainingError when the loss is no longer finite, an example cannot be read, or
        nothing can be saved any more.
        """
        if self._writes:
            files.remove_parts(self.out)
        self._started = time.monotonic()
        self._saved_at = self._line_at = self._read_at = self._clock()
        self._line_step = self.step  # a resumed run's first line covers less time than batches
        size = self.train.batch_size
        total, done = self.epochs * self.batches * size, self.step * size
        try:
            with (
                StopSignals() as self._signals,
                contextlib.closing(self._open_log()) as self._log,
                contextlib.closing(Console(self.task, self.epochs, total, done)) as self._console,
            ):
                return self._run()
        except NotFiniteError as error:
            raise self._explained(error) from None
        except (DataError, OSError) as error:
            raise TrainingError(f"{error}; {self.saver.last_good()}") from error

    def _run(self) -> str:
        if self.step == 0 or self._edited:
            self._save()  # finds out at once whether the folder can be written
        while self.epoch < self.epochs:
            self._train_epoch()
            if not self._stopping():
                self._finish_epoch()
            if self._stopping():
                self._save()
                return str(self._stopping())
        return "done"

    def _train_epoch(self) -> None:
        """Train from the batch it stands at to the epoch's end, or until it is told to stop."""
        self.model.train()
        self._console.phase(self.epoch)
        epoch = self.train.epoch(self.epoch, start=self.batch)
        with contextlib.closing(self.task.ahead(epoch)) as batches:
            while self.batch < self.batches and not self._stopping():
                self.watch.begin(self.step)
                batch = next(batches)
                self._pass_over("train", batch)
                self.watch.lap("loading")
                count = self._train_step(batch)
                self.batch += 1
                self.step += 1
                self._console.advance(count)
                now = self._clock()
                self._report(now)
                self._step_schedule()
                if self._checkpoint_due(now):
                    self._save()

    def _train_step(self, batch: Any) -> int:
        """Train on a batch; the number of its examples."""
        with self.steps.share(self.task.count(batch), self.task.weight(batch)) as count:
            loss, measured = self.task.loss(self.model, *self.task.inputs(batch))
            self.watch.lap("forward")
            self.optimizer.zero_grad()
            means = self.steps.backward(loss, [loss.data, *measured])
        self.watch.lap("backward")
        self.optimizer.step()
        with self.task.device.activate():
            for i, value in enumerate([*means, 1]):
                self._totals[i] += value
        self.watch.lap("update")
        return count

    def _step_schedule(self) -> None:
        """After a batch; but the end of an epoch comes with the test's figures."""
        if self.batch < self.batches:
            self.schedule.step(self._now(), {})

    def _finish_epoch(self) -> None:
        """Test, write it down, step the schedule, save. Leaves early if told to stop."""
        began = time.perf_counter()
        self._check_alike()
        self._console.phase(self.epoch, testing=True)
        self.model.eval()
        with contextlib.closing(self.task.ahead(self.test.epoch(0))) as batches:
            found = self.task.test(self.model, self._unless_stopped(batches))
        if self._stopping():
            return
        if not math.isfinite(found.get("loss", 0.0)):
            raise NotFiniteError("the loss of the test is NaN or infinite")
        took = time.perf_counter() - began
        self.watch.seconds["testing"] += took
        self._line_at += took  # examples a second are those of training
        health = self.health()
        rate = self.optimizer.lr
        self.epoch += 1
        self.batch = 0
        self.schedule.step(self.epoch, found)
        seconds = dict(self.watch.seconds)
        test_line = dict(epoch=self.epoch, **found, lr=rate, health=health, seconds=seconds)
        self._log.write("test", self.step, **test_line, **self._left_out())
        is_best = found[self.task.best_by] < self.best[self.task.best_by]
        if is_best:
            figures = {name: found[name] for name in self.task.measures if name in found}
            figures.setdefault(self.task.best_by, found[self.task.best_by])
            self.best = {**figures, "epoch": self.epoch, "step": self.step}
            if self._writes:
                self.task.save(self.out)
        if self._writes:
            self.task.after_epoch(self.model, self.out, self.epoch)
        self._console.tested(self.epoch, found, rate, is_best)
        self._console.health(health)
        for epoch, name, value in self.story:
            if epoch == self.epoch:
                edit(self.optimizer, self.schedule, epoch, [(name, value)])
                self._console.say(f"from here on, as the recipe has it: {name}={value}")
        self._save()

    def _check_alike(self) -> None:
        """Raise TrainingError if ranks no longer have the same net: machines differ, or err."""
        if self.ranks.size == 1:
            return
        arrays = map(np.ascontiguousarray, self.model.state_dict().values())
        sums = [zlib.crc32(array.data) for array in arrays]
        told = self.ranks.gather((self.ranks.name, sums))
        for name, others in told:
            if others != told[0][1]:
                raise TrainingError(
                    f"{name}: expected the weights of rank 0, got others; {self.saver.last_good()}"
                )

    def health(self) -> dict[str, tuple[float, float]]:
        """Mean |w| and mean |last step| of every layer, as the program of 2012 logged at each test.

        A layer is a named group of the optimiser's, or a parameter of a group without a name. A
        step near 1e-3 of the weights is sound; 0 is a dead or frozen layer.
        """
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        layers: dict[str, list] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                layers.setdefault(group["name"] or names[id(parameter)], []).append(parameter)
        return {
            name: (_mean_abs(layer), _mean_abs([self.optimizer.last_step(p) for p in layer]))
            for name, layer in layers.items()
        }

    # ------------------------------------------------------------------ reading the device

    def lines_every(self) -> int:
        """Batches a line of metrics. Counted in batches, not in seconds: a resumed run then has the
        lines of an undisturbed one.
        """
        return min(50, max(1, self.batches // LINES))

    def _report(self, now: float) -> None:
        """Once a second, and where a line of metrics is due: read the sums from the device."""
        line_due = self.step % self.log_every == 0
        if not line_due and now - self._read_at < 1.0:
            return
        self._read_at = now
        *totals, count = self.task.device.download(self._totals)
        if not math.isfinite(totals[0]):
            raise NotFiniteError("the loss is NaN or infinite")
        names = ("loss", *self.task.measured)
        means = {name: total / count for name, total in zip(names, totals, strict=True)}
        self._console.show(means, self._now() / self.epochs)
        if not line_due:
            return
        examples = (self.step - self._line_step) * self.train.batch_size
        self._log.write(
            "train",
            self.step,
            epoch=round(self._now(), 6),
            **means,
            lr=self.optimizer.lr,
            images_per_second=round(examples / (now - self._line_at), 1),
            **self._left_out(),
        )
        self._line_at, self._line_step = now, self.step
        self._totals = self._upload([0.0] * len(self._totals))
        self._watch_for_stuck(means["loss"], int(count))

    def _pass_over(self, split: str, batch: Any) -> None:
        """Tell, once, what of a batch could not be read. Raises DataError when it is too much."""
        found = self.task.damaged(batch)
        if self.skip_damaged:  # else the first one has ended the run
            found = dict(itertools.chain(*(each.items() for each in self.ranks.gather(found))))
        for place, problem in found.items():
            if place in self.damaged[split]:
                continue
            self.damaged[split].append(place)
            if (count := sum(map(len, self.damaged.values()))) > self.skip_damaged:
                raise DataError(
                    f"{problem}; expected at most {self.skip_damaged} that cannot be read, this is "
                    f"number {count}"
                )
            self._console.say(f"left out: {problem}")

    def _left_out(self) -> dict[str, int]:
        """How many examples, for a line of metrics; nothing if there are none."""
        count = sum(map(len, self.damaged.values()))
        return {"damaged": count} if count else {}

    def _watch_for_stuck(self, loss: float, batches: int) -> None:
        """Warn, once, when the net has learnt nothing for long."""
        chance = self.task.chance
        # within 1 % over 50 batches; a mean over fewer varies more, as 1 / sqrt(batches)
        near = 0.01 * math.sqrt(max(1, 50 / batches))
        at_chance = chance is not None and abs(loss - chance) < near * chance
        self._stuck = self._stuck + batches if at_chance else 0
        if self._stuck >= self.stuck_after and not self._warned:
            self._warned = True
            self._console.stuck(self._stuck, self.advice)

    # ------------------------------------------------------------------ stopping and saving

    @property
    def _writes(self) -> bool:
        return self.ranks.rank == 0

    def _open_log(self) -> MetricsLog:
        return MetricsLog(self.out, self._metrics_size) if self._writes else NoMetricsLog()

    def _clock(self) -> float:
        """Seconds, by the clock of rank 0."""
        return self.ranks.gather(time.monotonic())[0]

    def _stopping(self) -> str | None:
        """Why the run is to end before its last epoch, or None; the same on all ranks."""
        reason = None
        if self._signals.received is not None:
            reason = self._signals.received.name
        elif self.max_minutes and time.monotonic() - self._started > 60 * self.max_minutes:
            reason = "time"
        return next(filter(None, self.ranks.gather(reason)), None)

    def _unless_stopped(self, batches: Iterable) -> Iterator:
        for batch in batches:
            if self._stopping():
                return
            self._pass_over("test", batch)
            yield batch

    def _checkpoint_due(self, now: float) -> bool:
        if self.checkpoint_batches and self.step % self.checkpoint_batches == 0:
            return True
        minutes = self.checkpoint_minutes or math.inf
        return now - self._saved_at > 60 * minutes

    def _save(self) -> None:
        position = {
            "epoch": self.epoch,
            "epochs": self.epochs,
            "batch": self.batch,
            "step": self.step,
            "totals": self.task.device.download(self._totals).tolist(),
            "best": self.best,
            "stuck": self._stuck,
            "damaged": self.damaged,
            "seconds": self.watch.seconds,
            "metrics_size": self._log.sync(),
        }
        save = functools.partial(self.saver.save, self.step, position, self.best["step"])
        self.saver.last = self.ranks.first(save)
        self._saved_at = self._clock()

    # ------------------------------------------------------------------ going on

    def resume(self) -> str:
        """Go back to the newest whole checkpoint of the folder; return a line that says so.

        With another number of epochs than before, the rate is at once what the schedule says of
        them (a cosine that had come down to 0 rises again). Raises CheckpointError if there is no
        checkpoint, or if it is of another net or other classes; ValueError if it has been through
        more epochs than are wanted.
        """
        checkpoint, line, self.saver.last = self.ranks.first(self.saver.newest)
        with files.understood(Path(str(self.saver.last))):
            self._restore(checkpoint)
        if self.epoch > self.epochs:
            raise ValueError(
                f"the run in {self.out} has been through {self.epoch} epochs: expected at least "
                f"as many, got {self.epochs}; give --epochs {self.epoch} or more"
            )
        if checkpoint.state.get("epochs", self.epochs) != self.epochs:
            self._step_schedule()
        if self._writes:
            self.saver.keep_best(self.best["step"])  # a kill may have come before its second name
        if self.epoch == self.epochs:
            return f"{line}: all {self.epochs} epochs are done; a larger --epochs goes on"
        return f"{line}: epoch {self.epoch + 1}, batch {self.batch}"

    def edit(self, edits: list[tuple[str, str]]) -> None:
        """Change rates in the middle of a run; see saving.edit."""
        edit(self.optimizer, self.schedule, self._now(), edits)
        self._edited = bool(edits)

    def _now(self) -> float:
        """How many epochs are over."""
        return self.epoch + self.batch / self.batches

    def _restore(self, checkpoint: files.Checkpoint) -> None:
        position = self.saver.restore(checkpoint)
        self.epoch, self.batch, self.step = (int(position[k]) for k in ("epoch", "batch", "step"))
        self._totals = self._upload(position["totals"])
        self.best, self._stuck = position["best"], int(position["stuck"])
        float(self.best[self.task.best_by]), int(self.best["step"])  # they must be there
        self.damaged = position.get("damaged", self.damaged)
        self.watch.seconds.update(position["seconds"])
        self._metrics_size = int(position["metrics_size"])

    def _explained(self, error: NotFiniteError) -> TrainingError:
        """Replay from the last good checkpoint, to say where the trouble began."""
        last = self.saver.last
        if last is None:
            return TrainingError(f"{error}, before the first batch; {self.saver.last_good()}")
        batches_since = self.step
        self._console.say(f"{error}: replaying from {last} to find where it began")
        self._restore(self.ranks.first(functools.partial(files.load, last)))
        batches_since -= self.step
        self.model.train()
        first = self.batch
        with contextlib.closing(self.train.epoch(self.epoch, start=first)) as batches:
            replayed = self._with_schedule(itertools.islice(batches, batches_since))
            where, number = replay(self.task, self.model, self.optimizer, replayed)
        moment = f", epoch {self.epoch + 1}, batch {first + number + 1}"
        if where is None and self.batch == self.batches:  # training was sound: it was in the test
            self.model.eval()
            with contextlib.closing(self.task.ahead(self.test.epoch(0))) as batches:
                where = replay_test(self.task, self.model, batches)
            moment = f" in the test after epoch {self.epoch + 1}" if where else moment
        found = f"first in {where}" if where else "though not when replayed"
        advice = "a smaller learning rate from there on may carry it past"
        if 0 <= self.best["step"] < self.step:  # since then the weights may have grown too large
            advice += (
                f"; if not, move step-*{files.SUFFIX} out of {self.out}, to go on from "
                f"{files.BEST} (epoch {self.best['epoch']})"
            )
        return TrainingError(f"{error}: {found}{moment}; {self.saver.last_good()}; {advice}")

    def _with_schedule(self, batches: Iterable) -> Iterator:
        """The batches, and after each one trained on the schedule's step."""
        for batch in batches:
            yield batch
            self.batch += 1
            self._step_schedule()

    def _upload(self, numbers: list[float]) -> Any:
        device = self.task.device
        with device.activate():
            return device.upload(np.array(numbers, np.float64))


def _mean_abs(tensors: list[Tensor]) -> float:
    """The mean of |value| over several tensors."""
    total = 0.0
    for tensor in tensors:
        with tensor.device.activate():
            total += float(abs(tensor.data).sum(dtype=np.float64))
    return total / sum(tensor.size for tensor in tensors)
