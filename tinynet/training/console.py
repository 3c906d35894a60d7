"""What a run says while it goes on: one progress bar, and a few lines after every test."""

from __future__ import annotations

from tqdm import tqdm

from tinynet.training.task import Task


class Console:
    """Prints for people. Nothing that is printed here is read again by the program."""

    def __init__(self, task: Task, epochs: int, total: int, done: int) -> None:
        """total, done: examples of the whole run, and those trained on already."""
        self.task, self.epochs = task, epochs
        self._bar = tqdm(  # shown on a terminal only
            total=total,
            initial=done,
            unit=f" {task.unit}",
            unit_scale=True,
            disable=None,
            dynamic_ncols=True,
        )

    def phase(self, epoch: int, testing: bool = False) -> None:
        """Epoch `epoch` (from 0) is trained, or tested."""
        self._bar.set_description(f"epoch {epoch + 1}/{self.epochs}" + ", testing" * testing)

    def advance(self, count: int) -> None:
        """So many more examples are done."""
        self._bar.update(count)

    def show(self, means: dict[str, float]) -> None:
        """The means since the last line of metrics, beside the bar."""
        words = [f"loss {means['loss']:.3f}"]
        words += [m.words(means[name]) for name, m in self.task.measures.items() if name in means]
        self._bar.set_postfix_str(", ".join(words))

    def tested(self, epoch: int, found: dict[str, float], lr: float, best: bool) -> None:
        """What a test found after `epoch` epochs."""
        words = [f"test loss {found['loss']:.4f}"]
        words += [m.words(found[name]) for name, m in self.task.measures.items() if name in found]
        tqdm.write(
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
        tqdm.write("  mean |w|, |step|: " + "  ".join(shown))

    def stuck(self, batches: int, advice: str) -> None:
        """The net has learnt nothing for long."""
        tqdm.write(
            f"warning: for {batches} batches the loss has been {self.task.chance:.2f}, that of a "
            f"net that says the same of all {self.task.unit}. {advice}".rstrip()
        )

    def say(self, line: str) -> None:
        """A line above the bar."""
        tqdm.write(line)

    def close(self) -> None:
        self._bar.close()
