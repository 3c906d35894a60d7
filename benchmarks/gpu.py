"""Settle everything about a real GPU in one go, in about eight minutes: is it right, and how fast
beside what.

    python benchmarks/gpu.py [--minutes 7.5] [--skip-tests] [--only PART] [--out FILE.json]

It runs the kernels' tests under compute-sanitizer, all tests that need a GPU, and the gradient
suite on it; compares a whole `paper` step with the CPU's, cuda:0,cuda:0 with cuda:0, and runs with
each other. Then it measures: pictures/s at batch 128 to 1024 in float32 and TF32, beside PyTorch
with the same precision (eager, and channels_last with cudnn.benchmark); the time of every kernel
beside the bandwidth and the GEMM rate that this GPU was seen to reach; the share of the GEMM floor;
how busy the GPU is; and other values of every constant in tinynet/kernels/cuda that is a guess.

Every part runs in a process of its own, under a limit of its own: an illegal address ends its own
part and no other. What a part printed stays in a log beside the results; of a part that failed the
last lines are in the table. The results, with device, versions and date, go to benchmarks/results/
after each part; a short table is printed last. Exit status: 0; 1 if a part failed or did not end in
its time; 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from measure import RESULTS, ROOT, installed, machine, write_json

sys.path[:0] = [str(ROOT), str(ROOT / "examples")]
from gpu_parts import checks, figures  # noqa: E402
from gpu_parts.step import SMALL, WHOLE, Size  # noqa: E402
from gpu_parts.table import failed, table  # noqa: E402

import tinynet  # noqa: E402
from tinynet.devices import Device  # noqa: E402

BATCHES = (128, 256, 512, 1024)


class Part(NamedTuple):
    """One thing to find out. `find()` returns it; given up after `limit` seconds."""

    name: str
    find: Callable[[], Any]
    limit: int = 45
    gpus: int = 1


def parts(size: Size, skip_tests: bool = False) -> list[Part]:
    """All parts, in the order in which they run: what is wrong comes before what is slow."""
    few, first = size.few, size.batch
    tests = [
        *(Part(f"{tool} of the kernels", partial(checks.sanitizer, tool), 75)
          for tool in checks.TOOLS),
        Part("tests", checks.run_tests, 150),
        Part("gradients", checks.gradients, 75),
    ]  # fmt: skip
    pairs = [("cuda:0", "cuda:0,cuda:0", 1), ("cuda:0,cuda:0", "cuda:0,cuda:0", 1),
             ("cuda:0", "cuda:0,cuda:1", 2)]  # fmt: skip
    found = [
        Part("step as on the CPU", partial(checks.cpu_parity, size.preset, few)),
        *(Part(f"{b} as {a}", partial(checks.same_bits, a, b, size.preset, few), gpus=gpus)
          for a, b, gpus in pairs),
        Part("memory", partial(figures.memory, size)),
        Part("peaks", partial(figures.peaks, size)),
    ]  # fmt: skip
    for kind, tf32 in (("fp32", False), ("tf32", True)):
        found += [
            Part(f"rate {kind} {first}", partial(figures.rates, "cuda:0", first, tf32, size)),
            Part(f"PyTorch {kind}", partial(figures.pytorch_rates, batches(size), tf32, size), 90),
            Part(f"busy {kind}", partial(figures.busy, size, tf32)),
            Part(f"kernels {kind}", partial(figures.kernel_table, size, tf32)),
            Part(f"gemm floor {kind}", partial(figures.gemm_floor, size, tf32)),
        ]
    for names, gpus in (("cuda:0,cuda:0", 1), ("cuda:0,cuda:1", 2)):
        rates = partial(figures.rates, names, first, False, size)
        found.append(Part(f"rate fp32 {first} {names}", rates, gpus=gpus))
    found.append(Part("guesses", partial(figures.guesses, size)))
    found.append(Part("pieces of columns", partial(figures.pieces, size), 60))
    for batch in batches(size)[1:]:
        for kind, tf32 in (("fp32", False), ("tf32", True)):
            rates = partial(figures.rates, "cuda:0", batch, tf32, size)
            found.append(Part(f"rate {kind} {batch}", rates))
    return found if skip_tests else [*tests, *found]


def batches(size: Size) -> tuple[int, ...]:
    return (size.batch,) if size is SMALL else BATCHES


# --- a part, here and in a process of its own -----------------------------------------------------


def alone(part: Part, small: bool, log: Path) -> Any:
    """Run a part in a process of its own; what it printed goes to the end of `log`."""
    with tempfile.TemporaryDirectory() as folder, open(log, "ab") as output:
        answer, start = Path(folder) / "found.json", output.tell()
        command = [sys.executable, str(Path(__file__)), "--only", part.name, "--out", str(answer)]
        child = subprocess.Popen(
            command + ["--small"] * small, stdout=output, stderr=output, start_new_session=True
        )
        try:
            child.wait(part.limit)
            ended = f"exit status {child.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"given up after {part.limit} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # and what it started itself
            child.wait()
        if answer.exists():
            return json.loads(answer.read_text())["found"][part.name]
        last = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
        return f"failed: {ended}; {last[-1].strip()[:200] if last else 'nothing was printed'}"


def here(part: Part) -> Any:
    """Run a part in this process; an error is what it found."""
    try:
        return part.find()
    except Exception as error:
        return f"failed: {type(error).__name__}: {error}"


def about(gpu: Device) -> dict[str, Any]:
    """Machine, GPU and versions."""
    runtime = gpu.xp.cuda.runtime
    return machine() | dict(
        gpu=runtime.getDeviceProperties(0)["name"].decode(), gpus=runtime.getDeviceCount(),
        driver=runtime.driverGetVersion(), cuda=runtime.runtimeGetVersion(),
        cupy=gpu.xp.__version__, torch=installed("torch"), tinynet=tinynet.__version__,
    )  # fmt: skip


def run(args: argparse.Namespace, about: dict[str, Any], path: Path) -> dict[str, Any]:
    """All parts one after the other, until the time is over; what was found is saved after each."""
    deadline, found = time.monotonic() + 60 * args.minutes, {}
    log = path.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    for part in parts(SMALL if args.small else WHOLE, args.skip_tests):
        if part.gpus > about["gpus"]:
            continue
        start = time.monotonic()
        if start > deadline:
            found[part.name] = "not run: out of time"
        else:
            found[part.name] = alone(part, args.small, log)
        write_json(path, dict(about=about, found=found))
        print(f"{part.name}: {time.monotonic() - start:.1f} s", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="no new part is begun after so long (7.5)"
    )
    parser.add_argument("--skip-tests", action="store_true", help="only compare and measure")
    parser.add_argument("--only", metavar="PART", help="one part alone, in this process")
    parser.add_argument(
        "--out", type=Path, help="where the results go (benchmarks/results/GPU-DATE.json)"
    )
    parser.add_argument(
        "--small", action="store_true", help="a tiny form of everything, to try this program"
    )
    args = parser.parse_args(arguments)
    known = {part.name: part for part in parts(SMALL if args.small else WHOLE)}
    if args.only is not None and args.only not in known:
        parser.error(f"--only: expected one of {', '.join(known)}, got {args.only}")
    if args.only is not None and args.only.startswith("PyTorch"):
        found = {args.only: here(known[args.only])}  # this process never sees CuPy
        described: dict[str, Any] = machine()
    else:
        try:
            described = about(tinynet.device("cuda:0"))
        except tinynet.DeviceUnavailableError as error:
            print(f"benchmarks/gpu.py needs a GPU: {error}", file=sys.stderr)
            return 2
        slug = re.sub(r"[^a-z0-9]+", "-", described["gpu"].lower()).strip("-")
        path = args.out or RESULTS / f"{slug}-{time.strftime('%Y-%m-%d')}.json"
        if args.only is None:
            found = run(args, described, path)
            print(
                f"\n{described['gpu']}, driver {described['driver']}, CUDA {described['cuda']}, "
                f"CuPy {described['cupy']}, {described['date']}: {path}"
            )
        else:
            found = {args.only: here(known[args.only])}
    if args.only is not None and args.out is not None:
        write_json(args.out, dict(about=described, found=found))
    print("\n".join(table(found)))
    return 1 if failed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
