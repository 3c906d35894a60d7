"""How fast is it: peaks of the GPU, every kernel of a step beside them, other values of guesses."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from gpu_parts.step import Ours, Size, from_host, pair, precision, rate, release

import tinynet
from tinynet.devices import Device

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
# MiB, and conv2d.COLUMN_BYTES, by the rate of whole steps. 24 to 40 stay in an L2 cache of 50 MB.
PIECES = (16, 24, 32, 40, 64, 256, 1024)


def net_on(gpu: Device, size: Size) -> Ours:
    return Ours((gpu, gpu), size.batch, size.preset)


def memory(size: Size) -> dict[str, Any]:
    """Bytes after two steps, and the most in them."""
    gpu = tinynet.device("cuda:0")
    gpu.reset_peak()
    net = net_on(gpu, size)
    for _ in range(2):
        net.step()
    stats = gpu.memory_stats()
    return dict(used=stats.used, held=stats.held, peak=stats.peak)


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


def peaks(size: Size) -> dict[str, float]:
    """What this GPU was seen to reach: bytes/s of a copy (read and write), and flop/s of a large
    GEMM in both precisions.
    """
    from tinynet.kernels.cuda.gemm import gemm

    gpu, side = tinynet.device("cuda:0"), size.side
    a, b = noise(gpu, size.copied), noise(gpu, size.copied)
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


def gemm_floor(size: Size, tf32: bool) -> float:
    """Seconds of all matrix products of a step, each by itself, on whole columns, lying in memory
    as in a step.
    """
    from tinynet.kernels.cuda.gemm import gemm

    gpu, total = tinynet.device("cuda:0"), 0.0
    for layer, (towers, O, K, pixels) in enumerate(size.products):
        P = pixels * size.batch
        w, col, dy = noise(gpu, O, K), noise(gpu, K, P), noise(gpu, O, P)
        y, dw, dcol = (gpu.empty(a.shape, np.float32) for a in (dy, w, col))
        for a, b, out in ((w, col, y), (dy, col.T, dw), (w.T, dy, dcol)):
            if out is not dcol or layer > 0:  # the pictures need no gradient
                with precision(tf32):
                    product = partial(gemm, a, b, out)
                    total += towers * elapsed(gpu, product, times=3)
    return total


def kernel_table(size: Size, tf32: bool) -> list[dict[str, Any]]:
    """`kernel_times` of a step."""
    gpu = tinynet.device("cuda:0")
    with precision(tf32):
        return kernel_times(gpu, net_on(gpu, size).step, size.side)


def kernel_times(gpu: Device, step: Callable[[], object], side: int) -> list[dict[str, Any]]:
    """Time, bytes of the operands and flops of every kernel of ours in a step, by events around
    each launch.
    """
    from tinynet.kernels.cuda import conv2d, launch, linear, steps  # noqa: F401  (modules, for patching)

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

    def watched_steps(self: Any, calls: list[tuple], parts: Any) -> None:
        arrays = [a for call in calls for a in call if isinstance(a, gpu.xp.ndarray)]
        nbytes = sum(a.nbytes for a in arrays)
        around(self.name, lambda: plain_steps(self, calls, parts), nbytes, 0)

    def watched_gemm(a: Any, b: Any, out: Any, add: bool = False) -> None:
        flops = 2 * out.size * a.shape[-1]
        around("gemm", lambda: plain_gemm(a, b, out, add), a.nbytes + b.nbytes + out.nbytes, flops)

    plain_call, plain_gemm = launch.Kernel.__call__, modules[0].gemm
    plain_steps = steps.Step._launch
    step()
    gpu.synchronize()
    launch.Kernel.__call__, steps.Step._launch = watched_kernel, watched_steps
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
        launch.Kernel.__call__, steps.Step._launch = plain_call, plain_steps
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


def busy(size: Size, tf32: bool) -> dict[str, float]:
    """Seconds of a step on the GPU with all launches queued in advance, and as it runs: their ratio
    is how busy it is.

    (A GPU queues about a thousand launches before the host must wait: several steps.)
    """
    gpu, count = tinynet.device("cuda:0"), size.steps
    with precision(tf32):
        net = net_on(gpu, size)
        net.step()
        gpu.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            net.step()
        host = (time.perf_counter() - began) / count
        gpu.synchronize()
        wall = (time.perf_counter() - began) / count
        start, end = gpu.xp.cuda.Event(), gpu.xp.cuda.Event()
        pile(gpu, size.side, 2 * count * host)
        with gpu.activate():
            start.record()
        for _ in range(count):
            net.step()
        with gpu.activate():
            end.record()
        gpu.synchronize()
    return dict(gpu=gpu.xp.cuda.get_elapsed_time(start, end) / 1e3 / count, host=host, wall=wall)


def rates(names: str, batch: int, tf32: bool, size: Size) -> dict[str, float]:
    """Pictures/s of whole steps, with the pictures on the device and, on one, from the host."""
    devices, found = pair(names), {}

    def wait() -> None:
        for device in devices:
            device.synchronize()

    with precision(tf32):
        net = Ours(devices, batch, size.preset)
        found["tinynet"] = rate(net.step, wait, batch, size.seconds)
        if devices[0] is devices[1]:
            step = from_host(devices[0], net, batch)
            found["tinynet, from host"] = rate(step, wait, batch, size.seconds)
    return found


def pytorch_rates(batches: tuple[int, ...], tf32: bool, size: Size) -> Any:
    """PyTorch's, by batch size."""
    try:
        from gpu_parts import pytorch
    except ModuleNotFoundError as error:
        return f"not run: {error}"
    if not pytorch.torch.cuda.is_available():
        return "not run: this PyTorch sees no GPU"
    return pytorch.rates(batches, tf32, size.preset, size.seconds)


@contextlib.contextmanager
def constant(module: str, name: str) -> Iterator[Callable[[int], None]]:
    """A function that sets a constant of tinynet.kernels.cuda; afterwards it is what it was."""
    owner = sys.modules[f"tinynet.kernels.cuda.{module}"]
    standard = getattr(owner, name)
    try:
        yield lambda value: setattr(owner, name, value)
    finally:
        setattr(owner, name, standard)


def guesses(size: Size) -> dict[str, dict[str, float]]:
    """Milliseconds a step in the kernels that a guessed constant acts on, for each value."""
    gpu, found = tinynet.device("cuda:0"), {}
    step = from_host(gpu, net_on(gpu, size), size.batch)
    for module, name, values, kernels in GUESSES:
        with constant(module, name) as set_to:
            for value in values[: size.tries]:
                set_to(value)
                rows = kernel_times(gpu, step, size.side)
                spent = 1e3 * sum(row["seconds"] for row in rows if row["kernel"] in kernels)
                found.setdefault(f"{module}.{name}", {})[str(value)] = spent
    return found


def pieces(size: Size) -> dict[str, float]:
    """Pictures/s for each size of columns made at once, in both precisions."""
    gpu, found = tinynet.device("cuda:0"), {}
    net = net_on(gpu, size)
    for kind, tf32 in (("fp32", False), ("tf32", True)):
        with constant("conv2d", "COLUMN_BYTES") as set_to, precision(tf32):
            for mebibytes in PIECES[: size.tries]:
                set_to(mebibytes << 20)
                speed = rate(net.step, gpu.synchronize, size.batch, size.seconds / 3)
                found[f"{kind} {mebibytes} MiB"] = speed
                release()
    return found
