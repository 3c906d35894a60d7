"""What the benchmarks share: this machine in words, and figures as median and spread."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """Where and with what a measurement was made."""
    return dict(
        cpu=cpu_name(),
        cores=len(cores()),
        system=platform.platform(),
        python=platform.python_version(),
        packages={
            name: version
            for name in ("numpy", "threadpoolctl", "torch", "jax", "onnxruntime")
            if (version := installed(name))
        },
        date=time.strftime("%Y-%m-%d %H:%M %Z"),
    )


def describe(about: dict[str, Any]) -> str:
    """`machine()` in one line."""
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    where = f"{about['cpu']}, {about['cores']} cores, {about['system']}"
    return f"{where}, Python {about['python']}, {packages}, {about['date']}"


def cpu_name() -> str:
    if Path("/proc/cpuinfo").exists():
        match = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
        if match:
            return match.group(1)
    return platform.processor() or platform.machine()


def cores() -> set[int]:
    """Those that this process may use."""
    import os

    return (
        os.sched_getaffinity(0)
        if hasattr(os, "sched_getaffinity")
        else set(range(os.cpu_count() or 1))
    )


def installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest, and the values themselves in the order they came."""
    return dict(
        median=statistics.median(values), min=min(values), max=max(values), values=list(values)
    )


def result_path(kind: str, suffix: str) -> Path:
    """benchmarks/results/KIND-CPU-DATE.SUFFIX"""
    cpu = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
    return RESULTS / f"{kind}-{cpu}-{time.strftime('%Y-%m-%d')}.{suffix}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
