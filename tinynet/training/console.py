"""What a run says while it goes on: one progress bar, and a few lines after every test."""

from __future__ import annotations

import contextlib
import time

from tqdm import tqdm

from tinynet.training.task import Task

# 80 columns hold all of it, and the bar takes what is left of the line. What comes last is cut
# first, where a line is shorter.
BAR = "{desc}{percentage:4.0f}%|{bar}| {remaining} left, {rate_noinv_fmt}{postfix}"

QUIET = 60.0  # seconds between lines where no bar is shown, as in a log


class Console:
    """Prints for people. Nothing that is printed here is read again by the program.

    So a terminal that has gone, or a log on a full disk, ends no run: the line is lost, no more.
    """

    def __init__(self, task: Task, epochs: int, total: int, done: int) -> None:
        """total, done: examples of the whole run, and those trained on already."""
        self.task, self.epochs = task, epochs
        self._phase, self._said_at = "", time.monotonic()
        self._bar = tqdm(  # shown on a terminal only
            total=total,
            initial=done,
            unit="",
            unit_scale=True,
            disable=None,
            dynamic_ncols=True,
            bar_format=BAR,
        )

    def phase(self, epoch: int, testing: bool = False) -> None:
        """Epoch `epoch` (from 0) is trained, or tested."""
        self._phase = f"{'testing' if testing else 'epoch'} {epoch + 1}/{self.epochs}"
        with _unheard():
            self._bar.set_description_str(self._phase)

    def advance(self, count: int) -> None:
        """So many more examples are done."""
        with _unheard():
            self._bar.update(count)

    def show(self, means: dict[str, float], share: float) -> None:
        """The means since the last line of metrics, beside the bar. A log has no bar: there a line
        once a minute, with the share of the run that is done.
        """
        words = [f"loss {means['loss']:.3f}"]
        words += [m.words(means[name]) for name, m in self.task.measures.items() if name in means]
        with _unheard():
            self._bar.set_postfix_str(", ".join(words))
        now = time.monotonic()
        if self._bar.disable and now - self._said_at > QUIET:
            self._said_at = now
            self.say(f"{self._phase}, {100 * share:.0f} % of the run: {', '.join(words)}")

    def tested(self, epoch: int, found: dict[str, float], lr: float, best: bool) -> None:
        """What a test found after `epoch` epochs."""
        words = [f"test loss {found['loss']:.4f}"]
        words += [m.words(found[name]) for name, m in self.task.measures.items() if name in found]
        self.say(
            f"epoch {epoch}/{self.epochs}: {', '.join(words)}, lr {lr:.2g}"
            + (" (best so far)" if best else "")
        )

    def health(self, layers: dict[str, tuple[float, float]]) -> None:
        """Mean |w| and mean |last step| of every layer but its biases."""
        shown = (
            f"{name.removesuffix('.weight')} {weight:.1e} {step:.1e}"
            for name, (weight, step) in layers.items()
            if not name.endswith(".bias")
        )
        self.say("  mean |w|, |step|: " + "  ".join(shown))

    def stuck(self, batches: int, advice: str) -> None:
        """The net has learnt nothing for long."""
        self.say(
            f"warning: for {batches} batches the loss has been {self.task.chance:.2f}, that of a "
            f"net that says the same of all {self.task.unit}. {advice}".rstrip()
        )

    def say(self, line: str) -> None:
        """A line above the bar."""
        with _unheard():
            tqdm.write(line)

    def close(self) -> None:
        with _unheard():
            self._bar.close()


def _unheard() -> contextlib.suppress:
    """While entered, a terminal that has gone is no error."""
    return contextlib.suppress(OSError)
