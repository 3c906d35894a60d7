"""What a run writes down about itself: metrics as JSON lines, and how it was started."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from tinynet.devices.cores import available_cores
from tinynet.errors import DataError
from tinynet.training.checkpoint import write_whole
from tinynet.training.measure import Measure
from tinynet.training.task import Classification, Task

METRICS = "metrics.jsonl"
CONFIG = "config.json"


class MetricsLog:
    """Appends one JSON object a line to `metrics.jsonl`, and to TensorBoard if it is installed.

    Every line has "kind" ("train", "test") and "step" (batches trained so far). `size` is where a
    checkpoint says the file ended: a resumed run cuts off what came after it and so ends with
    the lines of a run that was never disturbed (wall-clock figures excepted).
    """

    def __init__(self, folder: Path, size: int = 0) -> None:
        self.path = Path(folder) / METRICS
        # "a" creates the file, and always writes at its end
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        if self.path.stat().st_size > size:
            self._file.truncate(size)
        self._board = _tensorboard(Path(folder))

    def write(self, kind: str, step: int, **values) -> None:
        """Add one line; it is whole or absent as far as one write call can make it so."""
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def sync(self) -> int:
        """Wait until all lines are on the disk; return the file's size, for a checkpoint."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.path.stat().st_size

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


class NoMetricsLog(MetricsLog):
    """That of a rank that writes nothing."""

    def __init__(self) -> None:
        """No file is opened."""

    def write(self, kind: str, step: int, **values) -> None: ...

    def sync(self) -> int:
        return 0

    def close(self) -> None: ...


def read_metrics(folder: Path) -> list[dict]:
    """All whole lines of a run's metrics; a last line cut by a kill is left out."""
    path = Path(folder) / METRICS
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    lines = []
    for number, line in enumerate(whole, 1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            raise DataError(
                f"{path}, line {number}: expected JSON, got something else: it is damaged; delete "
                "this line"
            ) from None
    return lines


def write_config(
    folder: Path,
    settings: dict,
    title: str,
    task: type[Task] | Task,
    data: dict[str, list] | None = None,
    kernels: Sequence[str] = (),
    resumed: bool = False,
    ranks: int = 1,
) -> None:
    """Write `config.json`: the settings, what the task measures, and the command, versions and
    machine they ran with.

    data: how many examples there are, and where, [count, source], of "train" and of "test".
    kernels: names of the weights that the report draws. ranks: how many train it together.

    A resumed run adds its command to the list, keeps the settings that it goes on with (the next
    resume goes on with them too), and leaves the rest as the first start wrote it. A new run keeps
    nothing of one that never came to its first checkpoint.
    """
    config = (read_config(folder) if resumed else None) or {
        "title": title,
        "measures": {name: list(measure) for name, measure in task.measures.items()},
        "best_by": task.best_by,
        "unit": task.unit,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "versions": versions(),
        "machine": f"{platform.system()} {platform.machine()}, {available_cores()} cores",
        "commands": [],
    }
    config |= {"settings": settings, "data": data or {}, "kernels": list(kernels)}
    command = shlex.join([Path(sys.executable).name, *sys.argv])
    config["commands"].append(f"mpiexec -n {ranks} {command}" if ranks > 1 else command)
    write_whole(Path(folder) / CONFIG, json.dumps(config, indent=2) + "\n")


def read_config(folder: Path) -> dict | None:
    """A run's `config.json`, or None where there is none. DataError if it cannot be understood."""
    path = Path(folder) / CONFIG
    if not path.exists():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        config["settings"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path} is damaged, or not the config.json of a run") from None
    # A run from before there were tasks is one of Classification.
    config.setdefault("title", config["settings"].get("preset", "a net"))
    config.setdefault("measures", Classification.measures)
    config.setdefault("best_by", Classification.best_by)
    config.setdefault("unit", Classification.unit)
    config.setdefault("data", {})  # before they were named
    config.setdefault("kernels", [])
    config["measures"] = {name: Measure(*m) for name, m in config["measures"].items()}
    return config


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter to a run's figures."""
    found = {"python": platform.python_version()}
    for package in ("tinynet", "numpy", "pillow", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _tensorboard(folder: Path):
    """A TensorBoard writer, or None where tensorboardX is not installed."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
