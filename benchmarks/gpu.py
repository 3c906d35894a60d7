"""Settle everything about a real GPU in one go, in under eight minutes: is it right, and how fast
beside what.

    python benchmarks/gpu.py [--minutes 7.5] [--skip-tests] [--out FILE.json]

It runs the tests that need a GPU; compares a whole `paper` step with the CPU's; cuda:0,cuda:0 with
cuda:0; runs with each other; and then measures: pictures/s at batch 128 to 1024 in float32 and
TF32, beside PyTorch in the same process with the same precision (eager, and channels_last with
cudnn.benchmark); the time of every kernel beside the bandwidth and the GEMM rate that this GPU was
seen to reach; the share of the GEMM floor; how busy the GPU is; and other values of every constant
in tinynet/kernels/cuda that is a guess.

The results, with device, versions and date, go to benchmarks/results/ after each part, so that what
was found stays if the program is ended; a short table is printed last. Exit status: 0, or 1 if a
part failed, or 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import RESULTS, ROOT, installed, machine, write_json

sys.path.insert(0, str(ROOT))
import tinynet  # noqa: E402
import tinynet.functional as F  # noqa: E402
from examples.alexnet import AlexNet  # noqa: E402
from tinynet.devices import Device  # noqa: E402

BATCHES = (128, 256, 512, 1024)
SECONDS = 1.2  # of each timing
TESTS_SECONDS = 200  # after so long the tests are given up: the rest must still be measured
# The paper's products: (towers, output channels, C*kh*kw, output pixels a picture)
PRODUCTS = [(2, 48, 363, 3025), (2, 128, 1200, 729), (2, 192, 2304, 169), (2, 192, 1728, 169),
            (2, 128, 1728, 169), (2, 2048, 9216, 1), (2, 2048, 4096, 1),
            (1, 1000, 4096, 1)]  # fmt: skip
# What is a guess: (module of tinynet.kernels.cuda, constant, values to try, the kernels it acts on)
GUESSES = [
    ("rows", "RUN", (1 << 10, 1 << 12, 1 << 14), ("row_sums", "relu_row_sums")),
    (
        "response_norm",
        "SEGMENT",
        (8, 16, 32, 48),
        ("local_response_norm_forward", "local_response_norm_backward"),
    ),
    ("pictures", "RUN", (4, 16, 64), ("pictures_forward",)),
]
PIECES = (
    16 << 20,
    64 << 20,
    256 << 20,
    1 << 30,
)  # and conv2d.COLUMN_BYTES, by the rate of whole steps


# --- our side -------------------------------------------------------------------------------------


class Ours:
    """AlexNet, its optimiser, and a batch that lies on the device, or on both, as in training."""

    def __init__(
        self, devices: tuple[Device, Device], batch: int, preset: str, dropout: bool = True
    ):
        tinynet.manual_seed(1)
        classes, channels = (1000, 3) if preset == "paper" else (10, 1)
        self.model = AlexNet(classes, preset, devices, channels)
        self.model.train() if dropout else self.model.eval()
        self.optimizer = tinynet.optim.SGD(self.model.parameters(), 1e-3, 0.9, 5e-4)
        rng, size = np.random.default_rng(2), self.model.image_size
        pictures = np.moveaxis(
            rng.standard_normal((channels, size, size, batch), np.float32), -1, 0
        )
        x = tuple(tinynet.tensor(pictures, device=device) for device in dict.fromkeys(devices))
        self.x = x if len(x) > 1 else x[0]
        self.labels = tinynet.tensor(rng.integers(0, classes, batch), device=devices[0])

    def step(self) -> tinynet.Tensor:
        loss = F.cross_entropy(self.model(self.x), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def pair(names: str) -> tuple[Device, Device]:
    from tinynet.program.runs import find_devices

    return find_devices(names, 2)


def release() -> None:
    """Give the idle memory of all pools back, so that one side's does not crowd the other's out."""
    sys.modules["tinynet.devices.cuda.memory"].pool.free_all_blocks()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.empty_cache()


def rate(step: Callable[[], object], wait: Callable[[], None], batch: int, seconds: float) -> float:
    """Pictures a second: steps back to back for `seconds`, waiting for the GPU at the end only."""
    for _ in range(3 if seconds else 0):
        step()
    wait()
    start = time.perf_counter()
    step()
    wait()
    steps = max(1, min(2000, int(seconds / max(time.perf_counter() - start, 1e-6))))
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return batch * steps / (time.perf_counter() - start)


# --- checks ---------------------------------------------------------------------------------------


def run_tests() -> dict[str, Any]:
    """All tests marked gpu; CuPy's warning that it switched peer access on behind our back is an
    error.
    """
    command = [
        sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests",
        "-W", "error::cupy._util.PerformanceWarning",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS_SECONDS)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    passed = re.search(r"(\d+) passed", last)
    return dict(
        ok=done.returncode == 0 and bool(passed),
        result=last,
        tail=done.stdout[-1500:] if done.returncode else "",
    )


def after_steps(
    count: int, names: str, preset: str, batch: int, dropout: bool
) -> tuple[float, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The loss of the last of some steps, the weights after it, and the last steps."""
    net = Ours(pair(names), batch, preset, dropout)
    for _ in range(count):
        loss = net.step()
    named = dict(net.model.named_parameters())
    return (
        loss.item(),
        net.model.state_dict(),
        {name: net.optimizer.last_step(p).numpy() for name, p in named.items()},
    )


def cpu_parity(preset: str, batch: int) -> dict[str, Any]:
    """One whole step here and on the CPU: the loss, and how far a layer's step differs, as a share
    of its length.

    The steps are compared, which are the gradients times the rate, and not the weights: a step of
    1e-6 added to a bias of 1 is rounded by 6 %. A pixel whose ReLU or pooling goes the other way
    for a rounding moves conv1's step by 1 or 2 %.
    """
    (loss, _, found), (expected_loss, _, expected) = (
        after_steps(1, names, preset, batch, dropout=False) for names in ("cuda:0", "cpu")
    )
    apart = {
        name: float(
            np.linalg.norm(found[name] - expected[name])
            / max(np.linalg.norm(expected[name]), 1e-30)
        )
        for name in expected
    }
    worst = max(apart, key=apart.__getitem__)
    ok = abs(loss - expected_loss) < 1e-4 * abs(expected_loss) and apart[worst] < 0.05
    return dict(ok=ok, loss=loss, cpu_loss=expected_loss, worst=worst, apart=apart[worst])


def same_bits(first: str, second: str, preset: str, batch: int) -> dict[str, Any]:
    """Two steps with dropout on both: every bit of every weight."""
    (loss_a, a, _), (loss_b, b, _) = (
        after_steps(2, names, preset, batch, dropout=True) for names in (first, second)
    )
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    return dict(ok=loss_a == loss_b and not different, different=different)


def memory(preset: str, batch: int) -> dict[str, Any]:
    release()
    gpu = tinynet.device("cuda:0")
    gpu.reset_peak()
    net = Ours((gpu, gpu), batch, preset)
    for _ in range(2):
        net.step()
    stats = gpu.memory_stats()
    return dict(used=stats.used, held=stats.held, peak=stats.peak)


# --- figures --------------------------------------------------------------------------------------


def noise(gpu: Device, *shape: int) -> Any:
    """Random numbers, repeated: products of zeros and ones use less power, and are quicker than any
    that a step makes.
    """
    count = int(np.prod(shape))
    with gpu.activate():
        some = gpu.upload(np.random.default_rng(4).standard_normal(min(count, 1 << 20), np.float32))
        return gpu.xp.tile(some, -(-count // some.size))[:count].reshape(shape)


def pile(gpu: Device, side: int, seconds: float) -> None:
    """Large products for about so long. What is queued behind them waits there, complete, when the
    GPU comes to it.
    """
    from tinynet.kernels.cuda.gemm import gemm

    x, y, z = (noise(gpu, side, side) for _ in range(3))
    once = elapsed(gpu, lambda: gemm(x, y, z))
    with gpu.activate():
        for _ in range(min(200, int(seconds / max(once, 1e-6)) + 1)):
            gemm(x, y, z)


def peaks(gpu: Device, size: int, side: int) -> dict[str, float]:
    """What this GPU was seen to reach: bytes/s of a copy (read and write), and flop/s of a large
    GEMM in both precisions.
    """
    from tinynet.kernels.cuda.gemm import gemm

    a, b = noise(gpu, size), noise(gpu, size)
    copying = elapsed(gpu, lambda: b.data.copy_from_device_async(a.data, a.nbytes))
    found = dict(bytes_per_second=2 * a.nbytes / copying)
    x, y, z = (noise(gpu, side, side) for _ in range(3))
    for name, tf32 in (("fp32", False), ("tf32", True)):
        with precision(tf32):
            found[f"{name}_flops"] = 2 * side**3 / elapsed(gpu, lambda: gemm(x, y, z))
    return found


def elapsed(gpu: Device, launch: Callable[[], None], times: int = 5) -> float:
    """Seconds on the GPU of one launch: the least of a few."""
    Event, between = gpu.xp.cuda.Event, gpu.xp.cuda.get_elapsed_time
    with gpu.activate():
        events = [Event() for _ in range(times + 1)]
        launch()
        events[0].record()
        for event in events[1:]:
            launch()
            event.record()
        gpu.synchronize()
        return min(between(a, b) for a, b in zip(events, events[1:], strict=False)) / 1e3


@contextlib.contextmanager
def precision(tf32: bool) -> Iterator[None]:
    tinynet.set_tf32(tf32)
    try:
        yield
    finally:
        tinynet.set_tf32(False)


def gemm_floor(gpu: Device, batch: int, products: list[tuple[int, int, int, int]]) -> float:
    """Seconds of all matrix products of a step, each by itself, on whole columns, lying in memory
    as in a step.
    """
    from tinynet.kernels.cuda.gemm import gemm

    total = 0.0
    for layer, (towers, O, K, pixels) in enumerate(products):
        w, col, dy = noise(gpu, O, K), noise(gpu, K, pixels * batch), noise(gpu, O, pixels * batch)
        y, dw, dcol = (gpu.empty(a.shape, np.float32) for a in (dy, w, col))
        for a, b, out in ((w, col, y), (dy, col.T, dw), (w.T, dy, dcol)):
            if out is not dcol or layer > 0:  # the pictures need no gradient
                total += towers * elapsed(gpu, lambda a=a, b=b, out=out: gemm(a, b, out), times=3)
    return total


def kernel_times(gpu: Device, step: Callable[[], object], side: int) -> list[dict[str, Any]]:
    """Time, bytes of the operands and flops of every kernel of ours in a step, by events around
    each launch.
    """
    from tinynet.kernels.cuda import conv2d, launch, linear  # noqa: F401  (modules, for patching)

    modules = [sys.modules[f"tinynet.kernels.cuda.{name}"] for name in ("conv2d", "linear")]
    Event, between = gpu.xp.cuda.Event, gpu.xp.cuda.get_elapsed_time
    records: list[tuple[str, Any, Any, int, int]] = []

    def around(name: str, call: Callable[[], None], nbytes: int, flops: int) -> None:
        start, end = Event(), Event()
        start.record()
        call()
        end.record()
        records.append((name, start, end, nbytes, flops))

    def watched_kernel(self: Any, threads: Any, *arguments: Any, **options: Any) -> None:
        nbytes = sum(a.nbytes for a in arguments if isinstance(a, gpu.xp.ndarray))
        around(self.name, lambda: plain_call(self, threads, *arguments, **options), nbytes, 0)

    def watched_gemm(a: Any, b: Any, out: Any, add: bool = False) -> None:
        flops = 2 * a.shape[0] * a.shape[1] * b.shape[1]
        around("gemm", lambda: plain_gemm(a, b, out, add), a.nbytes + b.nbytes + out.nbytes, flops)

    plain_call, plain_gemm = launch.Kernel.__call__, modules[0].gemm
    step()
    gpu.synchronize()
    launch.Kernel.__call__ = watched_kernel
    for module in modules:
        module.gemm = watched_gemm
    try:
        began = time.perf_counter()
        step()
        host = time.perf_counter() - began
        gpu.synchronize()
        records.clear()
        # Else the gaps in which the GPU waits for the host would count as the kernels'.
        pile(gpu, side, 2 * host)
        step()
        gpu.synchronize()
    finally:
        launch.Kernel.__call__ = plain_call
        for module in modules:
            module.gemm = plain_gemm
    totals: dict[str, list] = defaultdict(lambda: [0, 0.0, 0, 0])
    for name, start, end, nbytes, flops in records:
        row = totals[name]
        for i, value in enumerate((1, between(start, end) / 1e3, nbytes, flops)):
            row[i] += value
    rows = [
        dict(kernel=k, calls=c, seconds=s, bytes=b, flops=f) for k, (c, s, b, f) in totals.items()
    ]
    return sorted(rows, key=lambda row: -row["seconds"])


def busy(gpu: Device, net: Ours, side: int, count: int) -> dict[str, float]:
    """Seconds of a step on the GPU with all launches queued in advance, and as it runs: their ratio
    is how busy it is.

    (A GPU queues about a thousand launches before the host must wait: three steps.)
    """
    net.step()
    gpu.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        net.step()
    host = (time.perf_counter() - began) / count
    gpu.synchronize()
    wall = (time.perf_counter() - began) / count
    start, end = gpu.xp.cuda.Event(), gpu.xp.cuda.Event()
    pile(gpu, side, 2 * count * host)
    with gpu.activate():
        start.record()
    for _ in range(count):
        net.step()
    with gpu.activate():
        end.record()
    gpu.synchronize()
    return dict(gpu=gpu.xp.cuda.get_elapsed_time(start, end) / 1e3 / count, host=host, wall=wall)


def from_host(gpu: Device, net: Ours, batch: int) -> Callable[[], None]:
    """A step that begins with the pictures' bytes on the host, as training does."""
    rng, size = np.random.default_rng(3), net.model.image_size
    channels = net.x.shape[1]
    pictures = rng.integers(0, 256, (batch, size + 32, size + 32, channels), np.uint8)
    corners = rng.integers(0, 33, (2, batch)).astype(np.int32)
    flip = rng.integers(0, 2, batch).astype(bool)
    mean = gpu.upload(np.full((size + 32, size + 32, channels), 120, np.float32))

    def step() -> None:
        with gpu.activate("pictures"):
            sent = [gpu.upload(a) for a in (pictures, *corners, flip)]
            x = gpu.kernels.pictures_forward(
                sent[0], mean, *sent[1:], None, (size, size), 1 / 64, net.model.border
            )
        net.x = tinynet.Tensor(x, gpu)
        net.step()

    return step


# --- PyTorch's side -------------------------------------------------------------------------------


def pytorch(batch: int, preset: str, best: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """(step, wait): the same net, eager; `best` adds channels_last and cudnn.benchmark."""
    import torch
    from sides import random_batch
    from sides.pytorch import Net

    torch.backends.cudnn.benchmark = best
    net = Net(preset, True).cuda().train()
    x, labels = (torch.from_numpy(a).cuda() for a in random_batch(preset, batch))
    if best:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return lambda: net.train_step(x, labels), torch.cuda.synchronize


def pytorch_sees_gpu() -> bool:
    if installed("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def pytorch_precision(tf32: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32


# --- the run --------------------------------------------------------------------------------------


class Report:
    """Run each part, whatever the others did, until the time is over; what it found is kept in
    `found` and by `save`.
    """

    def __init__(self, minutes: float, save: Callable[[dict[str, Any]], None]):
        self.deadline, self.save, self.found = time.monotonic() + 60 * minutes, save, {}

    def part(self, name: str, function: Callable[..., Any], *args: Any) -> None:
        if time.monotonic() > self.deadline:
            self.found[name] = "not run: out of time"
            return
        start = time.monotonic()
        try:
            self.found[name] = function(*args)
        except Exception as error:
            self.found[name] = f"failed: {type(error).__name__}: {error}"
        self.save(self.found)
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)


def rates(gpu: Device, batch: int, tf32: bool, preset: str, seconds: float) -> dict[str, float]:
    """Pictures/s of every side at one batch size and precision."""
    found = {}
    with precision(tf32):
        net = Ours((gpu, gpu), batch, preset)
        found["tinynet"] = rate(net.step, gpu.synchronize, batch, seconds)
        found["tinynet, from host"] = rate(
            from_host(gpu, net, batch), gpu.synchronize, batch, seconds
        )
        del net
    release()
    if pytorch_sees_gpu():
        pytorch_precision(tf32)
        for name, best in (("PyTorch eager", False), ("PyTorch best", True)):
            found[name] = rate(*pytorch(batch, preset, best), batch, seconds)
            release()
    return found


def two_devices(batch: int, preset: str, seconds: float) -> dict[str, float]:
    """Pictures/s of the pair cuda:0,cuda:1."""
    devices = pair("cuda:0,cuda:1")
    wait = lambda: [device.synchronize() for device in devices]  # noqa: E731
    return dict(tinynet=rate(Ours(devices, batch, preset).step, wait, batch, seconds))


@contextlib.contextmanager
def constant(module: str, name: str) -> Iterator[Callable[[int], None]]:
    """A function that sets a constant of tinynet.kernels.cuda; afterwards it is what it was."""
    owner = sys.modules[f"tinynet.kernels.cuda.{module}"]
    standard = getattr(owner, name)
    try:
        yield lambda value: setattr(owner, name, value)
    finally:
        setattr(owner, name, standard)


def guesses(gpu: Device, batch: int, preset: str, side: int) -> dict[str, dict[str, float]]:
    """Milliseconds a step in the kernels that a guessed constant acts on, for each value."""
    step, found = from_host(gpu, Ours((gpu, gpu), batch, preset), batch), {}
    for module, name, values, kernels in GUESSES:
        with constant(module, name) as set_to:
            for value in values:
                set_to(value)
                rows = kernel_times(gpu, step, side)
                spent = 1e3 * sum(row["seconds"] for row in rows if row["kernel"] in kernels)
                found.setdefault(f"{module}.{name}", {})[str(value)] = spent
    return found


def pieces(gpu: Device, batch: int, preset: str, seconds: float) -> dict[str, float]:
    """Pictures/s for each size of columns made at once."""
    net, found = Ours((gpu, gpu), batch, preset), {}
    with constant("conv2d", "COLUMN_BYTES") as set_to:
        for nbytes in PIECES:
            set_to(nbytes)
            found[f"{nbytes >> 20} MiB"] = rate(net.step, gpu.synchronize, batch, seconds)
            release()
    return found


def run(
    gpu: Device, args: argparse.Namespace, save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    report, small, gpus = (
        Report(args.minutes, save),
        args.small,
        gpu.xp.cuda.runtime.getDeviceCount(),
    )
    preset, batches = ("mini", (2,)) if small else ("paper", BATCHES)
    seconds, few, first = (0.0, 2, batches[0]) if small else (SECONDS, 8, batches[0])
    side, copied = (8, 1 << 10) if small else (8192, 1 << 28)
    products = [(2, 48, 363, 9), (1, 8, 8, 1)] if small else PRODUCTS

    if not args.skip_tests:
        report.part("tests", run_tests)
    report.part("step as on the CPU", cpu_parity, preset, few)
    report.part("cuda:0,cuda:0 as cuda:0", same_bits, "cuda:0", "cuda:0,cuda:0", preset, few)
    report.part("the same bits every run", same_bits, "cuda:0,cuda:0", "cuda:0,cuda:0", preset, few)
    if gpus > 1:
        report.part("cuda:0,cuda:1 as cuda:0", same_bits, "cuda:0", "cuda:0,cuda:1", preset, few)
    report.part("memory", memory, preset, first)
    report.part("peaks", peaks, gpu, copied, side)
    for tf32 in (False,) if small else (False, True):
        name = "tf32" if tf32 else "fp32"
        with precision(tf32):
            report.part(f"gemm floor {name}", gemm_floor, gpu, first, products)
            report.part(
                f"kernels {name}",
                lambda: kernel_times(gpu, Ours((gpu, gpu), first, preset).step, side),
            )
            report.part(
                f"busy {name}",
                lambda: busy(gpu, Ours((gpu, gpu), first, preset), side, 1 if small else 3),
            )
        release()
    for batch in batches:
        for tf32 in (True,) if small else (False, True):
            report.part(
                f"rates {'tf32' if tf32 else 'fp32'} {batch}",
                rates,
                gpu,
                batch,
                tf32,
                preset,
                seconds,
            )
    if gpus > 1:
        report.part(f"two devices {first}", two_devices, first, preset, seconds)
    report.part("guesses", guesses, gpu, first, preset, side)
    report.part("pieces of columns", pieces, gpu, first, preset, seconds)
    return report.found


def table(found: dict[str, Any]) -> list[str]:
    """What a reader wants to know, one line each."""
    lines = []

    def numbers(name: str) -> dict[str, Any]:
        return found[name] if isinstance(found.get(name), dict) else {}

    for name, result in found.items():
        if isinstance(result, str):
            lines.append(f"{name:<26} {result}")
        elif isinstance(result, dict) and "ok" in result:
            detail = ", ".join(
                f"{k} {v}"
                for k, v in result.items()
                if k not in ("ok", "tail") and v not in ([], "")
            )
            lines.append(f"{name:<26} {'ok' if result['ok'] else 'FAILED'}   {detail}")
    if numbers("memory"):
        lines.append(
            "memory                     "
            + ", ".join(f"{k} {v / 1e9:.2f} GB" for k, v in found["memory"].items())
        )
    peak = numbers("peaks")
    if peak:
        fp32, tf32 = (peak[f"{kind}_flops"] / 1e12 for kind in ("fp32", "tf32"))
        lines.append(
            f"seen at most               {peak['bytes_per_second'] / 1e12:.2f} TB/s, "
            f"fp32 {fp32:.0f} and tf32 {tf32:.0f} TFLOP/s"
        )
    columns = ("tinynet", "tinynet, from host", "PyTorch eager", "PyTorch best")
    lines.append(
        f"{'pictures/s':<26} " + "".join(f"{c:>20}" for c in columns) + f"{'ours / eager':>14}"
    )
    for name, result in found.items():
        if name.startswith("rates") and isinstance(result, dict):
            ratio = (
                result["tinynet"] / result["PyTorch eager"]
                if "PyTorch eager" in result
                else float("nan")
            )
            values = "".join(
                f"{result[c]:>20,.0f}" if c in result else f"{'-':>20}" for c in columns
            )
            lines.append(f"{name[6:]:<26} {values}{ratio:>14.2f}")
    for kind in ("fp32", "tf32"):
        timing, floor = numbers(f"busy {kind}"), found.get(f"gemm floor {kind}")
        if timing:
            lines.append(
                f"{kind}: a step {1e3 * timing['wall']:.2f} ms, on the GPU "
                f"{1e3 * timing['gpu']:.2f} ms, launched in "
                f"{1e3 * timing['host']:.2f} ms: busy {min(1, timing['gpu'] / timing['wall']):.0%}"
            )
            if isinstance(floor, float):
                lines.append(
                    f"  GEMM floor {1e3 * floor:.2f} ms, {floor / timing['wall']:.0%} of the step"
                )
        kernels = found.get(f"kernels {kind}")
        if timing and isinstance(kernels, list):
            ours = sum(row["seconds"] for row in kernels)
            lines.append(
                f"  kernels {1e3 * ours:.2f} ms; the rest is CuPy's copies and fills, and gaps"
            )
        for row in kernels if isinstance(kernels, list) and peak else []:
            seconds = max(row["seconds"], 1e-12)
            if row["flops"]:
                share = f"{row['flops'] / seconds / peak[f'{kind}_flops']:>6.0%} of the GEMM rate"
            else:
                of_peak = row["bytes"] / seconds / peak["bytes_per_second"]
                share = f"{of_peak:>6.0%} of the bandwidth"
            lines.append(
                f"  {row['kernel']:<32} {row['calls']:>4} x {1e3 * row['seconds']:>8.3f} ms {share}"
            )
    for name, result in found.items():
        if name.startswith("two devices") and isinstance(result, dict):
            lines.append(f"{name:<26} {result['tinynet']:,.0f} pictures/s")
    for name, tried in numbers("guesses").items():
        lines.append(
            f"{name:<26} " + ", ".join(f"{value}: {spent:.3f} ms" for value, spent in tried.items())
        )
    if numbers("pieces of columns"):
        tried = found["pieces of columns"]
        lines.append(
            "conv2d.COLUMN_BYTES        " + ", ".join(f"{k}: {v:,.0f}/s" for k, v in tried.items())
        )
    return lines


def failed(found: dict[str, Any]) -> bool:
    return any(
        r.startswith("failed")
        if isinstance(r, str)
        else isinstance(r, dict) and r.get("ok") is False
        for r in found.values()
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--minutes", type=float, default=7.5, help="no new part is begun after so long (7.5)"
    )
    parser.add_argument("--skip-tests", action="store_true", help="only compare and measure")
    parser.add_argument(
        "--out", type=Path, help="where the results go (benchmarks/results/GPU-DATE.json)"
    )
    parser.add_argument(
        "--small", action="store_true", help="a tiny form of everything, to try this program"
    )
    args = parser.parse_args(arguments)
    try:
        gpu = tinynet.device("cuda:0")
    except tinynet.DeviceUnavailableError as error:
        print(f"benchmarks/gpu.py needs a GPU: {error}", file=sys.stderr)
        return 2
    runtime = gpu.xp.cuda.runtime
    name = runtime.getDeviceProperties(0)["name"].decode()
    about = machine() | dict(
        gpu=name, gpus=runtime.getDeviceCount(), driver=runtime.driverGetVersion(),
        cuda=runtime.runtimeGetVersion(), cupy=gpu.xp.__version__, torch=installed("torch"),
        tinynet=tinynet.__version__,
    )  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    path = args.out or RESULTS / f"{slug}-{time.strftime('%Y-%m-%d')}.json"
    found = run(gpu, args, lambda found: write_json(path, dict(about=about, found=found)))
    print(
        f"\n{name}, driver {about['driver']}, CUDA {about['cuda']}, CuPy {about['cupy']}, "
        f"{about['date']}: {path}"
    )
    print("\n".join(table(found)))
    return 1 if failed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
