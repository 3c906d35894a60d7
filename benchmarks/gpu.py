"""Settles everything about a real GPU in one go, in under eight minutes: is it right, how fast is it, and beside what.

    python benchmarks/gpu.py [--minutes 7.5] [--skip-tests] [--out FILE.json]

It runs the tests that need a GPU; compares a whole `paper` step with the CPU's; cuda:0,cuda:0 with cuda:0; runs with each
other; and then measures: pictures/s at batch 128 to 1024 in float32 and TF32, beside PyTorch in the same process with the
same precision (eager, and channels_last with cudnn.benchmark); the time of every kernel beside the bandwidth and the GEMM
rate that this GPU was seen to reach; the share of the GEMM floor; how busy the GPU is; how large pieces of columns should be.

The results, with device, versions and date, go to benchmarks/results/; a short table is printed last. Exit status: 0, or 1
if a check failed, or 2 if there is no GPU.
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
from tinynet.device import Device  # noqa: E402

BATCHES = (128, 256, 512, 1024)
PIECES = (16 << 20, 64 << 20, 256 << 20, 1 << 30)  # bytes of columns at once, to be tried
SECONDS = 1.2  # of each timing
# A convolution of the paper, per tower: (output channels, C*kh*kw, output pixels a picture); conv1's dx is not needed.
CONVOLUTIONS = [(48, 363, 3025), (128, 1200, 729), (192, 2304, 169), (192, 1728, 169), (128, 1728, 169)]
FULLY_CONNECTED = [(2048, 9216), (2048, 9216), (2048, 4096), (2048, 4096), (1000, 4096)]  # both towers'


# --- our side ---------------------------------------------------------------------------------------------------------


class Ours:
    """AlexNet, its optimiser, and a batch that lies on the first device."""

    def __init__(self, devices: tuple[Device, Device], batch: int, preset: str, dropout: bool = True):
        tinynet.manual_seed(1)
        classes, channels = (1000, 3) if preset == "paper" else (10, 1)
        self.model = AlexNet(classes, preset, devices, channels)
        self.model.train() if dropout else self.model.eval()
        self.optimizer = tinynet.optim.SGD(self.model.parameters(), 1e-3, 0.9, 5e-4)
        rng, size = np.random.default_rng(2), self.model.image_size
        pictures = np.moveaxis(rng.standard_normal((channels, size, size, batch), np.float32), -1, 0)
        self.x = tinynet.tensor(pictures, device=devices[0])
        self.labels = tinynet.tensor(rng.integers(0, classes, batch), device=devices[0])

    def step(self) -> tinynet.Tensor:
        loss = F.cross_entropy(self.model(self.x), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss


def pair(names: str) -> tuple[Device, Device]:
    from tinynet.training.runs import device_pair

    return device_pair(names)


def release() -> None:
    """Give the idle memory of all pools back, so that one side's does not crowd the other's out."""
    sys.modules["tinynet.cuda"]._pool.free_all_blocks()
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


# --- checks -----------------------------------------------------------------------------------------------------------


def run_tests() -> dict[str, Any]:
    """All tests marked gpu; CuPy's warning that it switched peer access on behind our back is an error."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests", "-W", "error::cupy._util.PerformanceWarning",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    passed = re.search(r"(\d+) passed", last)
    return dict(ok=done.returncode == 0 and bool(passed), result=last, tail=done.stdout[-1500:] if done.returncode else "")


def one_step(names: str, preset: str, batch: int, steps: int = 1, dropout: bool = False) -> tuple[float, dict[str, np.ndarray]]:
    net = Ours(pair(names), batch, preset, dropout)
    for _ in range(steps):
        loss = net.step()
    found = {name: p.numpy() for name, p in net.model.named_parameters()}
    return loss.item(), found


def cpu_parity(preset: str, batch: int) -> dict[str, Any]:
    """One whole step here and on the CPU: the loss, and the largest change of a weight that differs, as a share."""
    loss, weights = one_step("cuda:0", preset, batch)
    expected_loss, expected = one_step("cpu", preset, batch)
    before = {name: p.numpy() for name, p in Ours(pair("cpu"), batch, preset).model.named_parameters()}
    worst = max(
        float(np.abs(weights[n] - expected[n]).max() / max(np.abs(expected[n] - before[n]).max(), 1e-20)) for n in expected
    )
    return dict(ok=abs(loss - expected_loss) < 1e-4 * abs(expected_loss) and worst < 0.02, loss=loss,
                cpu_loss=expected_loss, worst_step=worst)  # fmt: skip


def same_bits(first: str, second: str, preset: str, batch: int) -> dict[str, Any]:
    """Two steps with dropout on both: every bit of every weight."""
    (loss_a, a), (loss_b, b) = (one_step(names, preset, batch, 2, dropout=True) for names in (first, second))
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    return dict(ok=loss_a == loss_b and not different, different=different)


def memory(preset: str, batch: int) -> dict[str, Any]:
    release()
    net = Ours(pair("cuda:0"), batch, preset)
    for _ in range(2):
        net.step()
    stats = tinynet.device("cuda:0").memory_stats()
    return dict(used=stats.used, held=stats.held, peak=stats.peak)


# --- figures ----------------------------------------------------------------------------------------------------------


def peaks(gpu: Device, size: int, side: int) -> dict[str, float]:
    """What this GPU was seen to reach: bytes/s of a copy (read and write), and flop/s of a large GEMM in both precisions."""
    from tinynet.kernels.cuda.gemm import gemm

    xp = gpu.xp
    with gpu.activate():
        a, b = xp.zeros(size, np.float32), xp.zeros(size, np.float32)
        copying = elapsed(gpu, lambda: b.data.copy_from_device_async(a.data, a.nbytes, gpu._lane.stream))
        found = dict(bytes_per_second=2 * a.nbytes / copying)
        x, y, z = (xp.ones((side, side), np.float32) for _ in range(3))
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
    from tinynet.cuda import set_tf32

    set_tf32(tf32)
    try:
        yield
    finally:
        set_tf32(False)


def gemm_floor(gpu: Device, batch: int, layers: tuple[list, list]) -> float:
    """Seconds of all matrix products of a step, each by itself on whole columns: no step made of them can be quicker."""
    from tinynet.kernels.cuda.gemm import gemm

    def product(m: int, k: int, n: int) -> float:
        with gpu.activate():
            a, b, out = (gpu.xp.ones(shape, np.float32) for shape in ((m, k), (k, n), (m, n)))
            return elapsed(gpu, lambda: gemm(a, b, out), times=3)

    total, (convolutions, connected) = 0.0, layers
    for i, (O, K, pixels) in enumerate(convolutions):
        P = pixels * batch
        total += 2 * (product(O, K, P) + product(O, P, K) + (product(K, O, P) if i else 0))  # y, dw, dx; two towers
    for O, I in connected:
        total += product(O, I, batch) + product(O, batch, I) + product(I, O, batch)
    return total


def kernel_times(gpu: Device, net: Ours) -> list[dict[str, Any]]:
    """Time, bytes of the operands and flops of every kernel in a step, by events around each launch."""
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
    net.step()
    gpu.synchronize()
    launch.Kernel.__call__ = watched_kernel
    for module in modules:
        module.gemm = watched_gemm
    try:
        net.step()
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
    rows = [dict(kernel=k, calls=c, seconds=s, bytes=b, flops=f) for k, (c, s, b, f) in totals.items()]
    return sorted(rows, key=lambda row: -row["seconds"])


def busy(gpu: Device, net: Ours, side: int, steps: int) -> dict[str, float]:
    """Seconds of a step on the GPU with all launches queued in advance, and as it runs: their ratio is how busy it is.

    The launches are queued behind a pile of large GEMMs, so that the GPU finds them ready. (It queues about a thousand
    before the host must wait: three steps.)
    """
    from tinynet.kernels.cuda.gemm import gemm

    with gpu.activate():
        x, y, z = (gpu.xp.ones((side, side), np.float32) for _ in range(3))
        once = elapsed(gpu, lambda: gemm(x, y, z))
        start, end = gpu.xp.cuda.Event(), gpu.xp.cuda.Event()
    net.step()
    gpu.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        net.step()
    host = (time.perf_counter() - began) / steps
    gpu.synchronize()
    wall = (time.perf_counter() - began) / steps
    with gpu.activate():
        for _ in range(min(500, int(2 * steps * host / max(once, 1e-6)) + 1)):
            gemm(x, y, z)
        start.record()
    for _ in range(steps):
        net.step()
    with gpu.activate():
        end.record()
    gpu.synchronize()
    return dict(gpu=gpu.xp.cuda.get_elapsed_time(start, end) / 1e3 / steps, host=host, wall=wall)


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
            x = gpu.kernels.pictures_forward(sent[0], mean, *sent[1:], None, (size, size), 1.0)
        net.x = tinynet.Tensor(x, gpu)
        net.step()

    return step


# --- PyTorch's side ---------------------------------------------------------------------------------------------------


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


# --- the run ----------------------------------------------------------------------------------------------------------


class Report:
    """Runs each part, whatever the others did, until the time is over; keeps what it found."""

    def __init__(self, minutes: float):
        self.deadline, self.found = time.monotonic() + 60 * minutes, {}

    def part(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        if time.monotonic() > self.deadline:
            self.found[name] = "not run: out of time"
            return None
        start = time.monotonic()
        try:
            result = self.found[name] = function(*args)
        except Exception as error:
            self.found[name] = f"failed: {type(error).__name__}: {error}"
            result = None
        print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        return result


def rates(gpu: Device, batch: int, tf32: bool, preset: str, seconds: float) -> dict[str, float]:
    """Pictures/s of every side at one batch size and precision."""
    found = {}
    with precision(tf32):
        net = Ours((gpu, gpu), batch, preset)
        found["tinynet"] = rate(net.step, gpu.synchronize, batch, seconds)
        found["tinynet, from host"] = rate(from_host(gpu, net, batch), gpu.synchronize, batch, seconds)
        del net
    release()
    if pytorch_sees_gpu():
        pytorch_precision(tf32)
        for name, best in (("PyTorch eager", False), ("PyTorch best", True)):
            found[name] = rate(*pytorch(batch, preset, best), batch, seconds)
            release()
    return found


def pieces(gpu: Device, batch: int, preset: str, seconds: float, sizes: tuple[int, ...]) -> dict[str, float]:
    """Pictures/s for each size of columns made at once."""
    conv2d, found = sys.modules["tinynet.kernels.cuda.conv2d"], {}
    standard = conv2d.COLUMN_BYTES
    try:
        for nbytes in sizes:
            conv2d.COLUMN_BYTES = nbytes
            found[f"{nbytes >> 20} MiB"] = rate(Ours((gpu, gpu), batch, preset).step, gpu.synchronize, batch, seconds)
            release()
    finally:
        conv2d.COLUMN_BYTES = standard
    return found


def run(gpu: Device, args: argparse.Namespace) -> dict[str, Any]:
    report, small = Report(args.minutes), args.small
    preset, batches = ("mini", (2,)) if small else ("paper", BATCHES)
    seconds, few, first = (0.0, 2, batches[0]) if small else (SECONDS, 8, batches[0])
    side, copied = (8, 1 << 10) if small else (8192, 1 << 28)
    layers = ([c[:2] + (9,) for c in CONVOLUTIONS[:2]], [(8, 8)]) if small else (CONVOLUTIONS, FULLY_CONNECTED)

    if not args.skip_tests:
        report.part("tests", run_tests)
    report.part("step as on the CPU", cpu_parity, preset, few)
    report.part("cuda:0,cuda:0 as cuda:0", same_bits, "cuda:0", "cuda:0,cuda:0", preset, few)
    report.part("the same bits every run", same_bits, "cuda:0,cuda:0", "cuda:0,cuda:0", preset, few)
    if gpu.xp.cuda.runtime.getDeviceCount() > 1:
        report.part("cuda:0,cuda:1 as cuda:0", same_bits, "cuda:0", "cuda:0,cuda:1", preset, few)
    report.part("memory", memory, preset, first)
    report.part("peaks", peaks, gpu, copied, side)
    for tf32 in (False,) if small else (False, True):
        name = "tf32" if tf32 else "fp32"
        with precision(tf32):
            report.part(f"gemm floor {name}", gemm_floor, gpu, first, layers)
            net = Ours((gpu, gpu), first, preset)
            report.part(f"kernels {name}", kernel_times, gpu, net)
            report.part(f"busy {name}", busy, gpu, net, side, 1 if small else 3)
            del net
            release()
    for batch in batches:
        for tf32 in (True,) if small else (False, True):
            name = "tf32" if tf32 else "fp32"
            report.part(f"rates {name} {batch}", rates, gpu, batch, tf32, preset, seconds)
    if gpu.xp.cuda.runtime.getDeviceCount() > 1:
        devices = pair("cuda:0,cuda:1")
        step = Ours(devices, first, preset).step
        wait = lambda: [d.synchronize() for d in devices]  # noqa: E731
        report.part(f"two devices {first}", lambda: dict(tinynet=rate(step, wait, first, seconds)))
    report.part("pieces of columns", pieces, gpu, first, preset, seconds, PIECES[:1] if small else PIECES)
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
            detail = ", ".join(f"{k} {v}" for k, v in result.items() if k not in ("ok", "tail") and v not in ([], ""))
            lines.append(f"{name:<26} {'ok' if result['ok'] else 'FAILED'}   {detail}")
    if numbers("memory"):
        lines.append("memory                     " + ", ".join(f"{k} {v / 1e9:.2f} GB" for k, v in found["memory"].items()))
    peak = numbers("peaks")
    if peak:
        lines.append(f"seen at most               {peak['bytes_per_second'] / 1e12:.2f} TB/s, fp32 "
                     f"{peak['fp32_flops'] / 1e12:.0f} and tf32 {peak['tf32_flops'] / 1e12:.0f} TFLOP/s")  # fmt: skip
    columns = ("tinynet", "tinynet, from host", "PyTorch eager", "PyTorch best")
    lines.append(f"{'pictures/s':<26} " + "".join(f"{c:>20}" for c in columns) + f"{'ours / eager':>14}")
    for name, result in found.items():
        if name.startswith("rates") and isinstance(result, dict):
            ratio = result["tinynet"] / result["PyTorch eager"] if "PyTorch eager" in result else float("nan")
            values = "".join(f"{result[c]:>20,.0f}" if c in result else f"{'-':>20}" for c in columns)
            lines.append(f"{name[6:]:<26} {values}{ratio:>14.2f}")
    for kind in ("fp32", "tf32"):
        timing, floor = numbers(f"busy {kind}"), found.get(f"gemm floor {kind}")
        if timing:
            lines.append(
                f"{kind}: a step {1e3 * timing['wall']:.2f} ms, on the GPU {1e3 * timing['gpu']:.2f} ms, launched in "
                f"{1e3 * timing['host']:.2f} ms: busy {min(1, timing['gpu'] / timing['wall']):.0%}"
            )
            if isinstance(floor, float):
                lines.append(f"  GEMM floor {1e3 * floor:.2f} ms, {floor / timing['wall']:.0%} of the step")
        kernels = found.get(f"kernels {kind}")
        for row in kernels if isinstance(kernels, list) and peak else []:
            seconds = max(row["seconds"], 1e-12)
            share = (
                f"{row['flops'] / seconds / peak[f'{kind}_flops']:>6.0%} of the GEMM rate" if row["flops"]
                else f"{row['bytes'] / seconds / peak['bytes_per_second']:>6.0%} of the bandwidth"
            )  # fmt: skip
            lines.append(f"  {row['kernel']:<32} {row['calls']:>4} x {1e3 * row['seconds']:>8.3f} ms {share}")
    if numbers("pieces of columns"):
        best = found["pieces of columns"]
        lines.append("pieces of columns          " + ", ".join(f"{k}: {v:,.0f}/s" for k, v in best.items()))
    return lines


def failed(found: dict[str, Any]) -> bool:
    return any(
        r.startswith("failed") if isinstance(r, str) else isinstance(r, dict) and r.get("ok") is False for r in found.values()
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=7.5, help="no new part is begun after so long (7.5)")
    parser.add_argument("--skip-tests", action="store_true", help="only compare and measure")
    parser.add_argument("--out", type=Path, help="where the results go (benchmarks/results/GPU-DATE.json)")
    parser.add_argument("--small", action="store_true", help="a tiny form of everything, to try this program")
    args = parser.parse_args(arguments)
    try:
        gpu = tinynet.device("cuda:0")
    except tinynet.DeviceUnavailableError as error:
        print(f"benchmarks/gpu.py needs a GPU: {error}", file=sys.stderr)
        return 2
    runtime = gpu.xp.cuda.runtime
    name = runtime.getDeviceProperties(0)["name"].decode()
    about = machine() | dict(
        gpu=name, gpus=runtime.getDeviceCount(), driver=runtime.driverGetVersion(), cuda=runtime.runtimeGetVersion(),
        cupy=gpu.xp.__version__, torch=installed("torch"), tinynet=tinynet.__version__,
    )  # fmt: skip
    found = run(gpu, args)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    path = args.out or RESULTS / f"{slug}-{time.strftime('%Y-%m-%d')}.json"
    write_json(path, dict(about=about, found=found))
    print(f"\n{name}, driver {about['driver']}, CUDA {about['cuda']}, CuPy {about['cupy']}, {about['date']}: {path}")
    print("\n".join(table(found)))
    return 1 if failed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
