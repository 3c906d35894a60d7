"""A model of the two-device step: for each layer what runs where, what crosses the link, and how
long each device waits.

    python benchmarks/two_devices.py [--link pcie4|pcie5|nvlink] [--batch 128] [--tf32]
                                     [--rates FILE.json] [--picture OUT.png]

The step of AlexNet (`paper`) is laid out as examples/alexnet.py runs it: every layer's forward and
backward takes the time of its matrix products at the GPU's GEMM rate and of the bytes it moves at
the GPU's bandwidth; every copy takes its bytes over the link, both ways at once. Then each device's
time line follows, and from it the speed-up over one device.

The rates are stated below, for an H200; `--rates` takes those that benchmarks/gpu.py measured.
Nothing is fitted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

# bytes/s one way that copies reach (16 lanes; NVLink 4: of 450)
LINKS = {"pcie4": 25e9, "pcie5": 50e9, "nvlink": 370e9}
LATENCY = 10e-6  # seconds that a copy takes beyond its bytes: two events and a launch
FLOAT = 4


class Rates(NamedTuple):
    """What a GPU does in a second, and the host's time for a launch."""

    flops: float = 45e12  # of matrix products in float32: two thirds of an H200's 67
    bytes: float = 3.8e12  # of memory: four fifths of 4.8
    launch: float = 8e-6  # seconds the host needs for a launch; one thread feeds both devices


TF32 = Rates(flops=300e12)


class Layer(NamedTuple):
    """A layer of one tower, for one picture: multiply-adds of its product, bytes that its kernels
    move there and back.
    """

    name: str
    macs: float
    forward: float
    backward: float
    launches: int  # forward; backward has about twice as many
    first: bool = False  # conv1 needs no gradient of its input
    spared: float = 0.0  # bytes less for both towers on one device: columns written once, not twice


class Cross(NamedTuple):
    """A boundary: bytes a picture that each tower sends the other (both ways at once), or that only
    b sends to a.
    """

    name: str
    bytes: float
    both: bool = True


def convolution(
    name: str,
    inputs: int,
    outputs: int,
    kernel: int,
    side: int,
    after: float,
    first: bool = False,
    stride: int = 1,
    same: bool = False,
) -> Layer:
    """One tower's. Columns along the row are written and read once forward and once for dw; for dx,
    those of dy are.

    after: floats that LRN and pooling move, in units of the output. same: both towers see the same
    tensor, and on one device they share its columns.
    """
    pixels, K = side * side, inputs * kernel * kernel
    columns = inputs * kernel * ((side - 1) * stride + kernel) * side * FLOAT
    of_dy = 0 if first else outputs * kernel * (side + kernel - 1) * side * FLOAT
    y = outputs * pixels * FLOAT
    forward = 2 * columns + y * (1 + 2 + after)  # the product, bias and ReLU, what follows
    # two products, bias and ReLU, what follows
    backward = 2 * (columns + of_dy) + y * (2 + 3 + 1.5 * after)
    spared = 2 * columns * same
    return Layer(name, K * pixels * outputs, forward, backward, 4 + 2 * (after > 0), first, spared)


def connected(name: str, inputs: int, outputs: int, batch: int) -> Layer:
    """One tower's. The weights are read once a product, whatever the batch, and updated: gradient,
    velocity, weight.
    """
    weights = inputs * outputs * FLOAT / batch
    return Layer(name, inputs * outputs, weights, weights * (2 + 5), 5)


def network(batch: int) -> list[list[Layer] | Cross]:
    """The step's stages: layers that both towers run (fc8: only a), and what crosses between them.
    Sizes: the paper's.
    """
    return [
        Cross("pictures", 3 * 224 * 224 * FLOAT, both=False),  # only if b's come from a
        [convolution("conv1", 3, 48, 11, 55, 2 + 1.25, first=True, stride=4, same=True),
         convolution("conv2", 48, 128, 5, 27, 2 + 1.25)],
        Cross("pool2", 128 * 13 * 13 * FLOAT),
        [convolution("conv3", 256, 192, 3, 13, 0, same=True),
         convolution("conv4", 192, 192, 3, 13, 0), convolution("conv5", 192, 128, 3, 13, 1.25)],
        Cross("pool5", 128 * 6 * 6 * FLOAT),
        [connected("fc6", 9216, 2048, batch)],
        Cross("fc6", 2048 * FLOAT),
        [connected("fc7", 4096, 2048, batch)],
        Cross("fc7", 2048 * FLOAT, both=False),
        [connected("fc8", 4096, 1000, batch)],
    ]  # fmt: skip


class Span(NamedTuple):
    """A piece of a time line: device 0 or 1, or 2 for the link."""

    where: int
    name: str
    start: float
    end: float


def compute_seconds(layer: Layer, batch: int, rates: Rates, backward: bool) -> float:
    products = (1 if layer.first else 2) if backward else 1
    flops, nbytes = (
        2 * layer.macs * products * batch,
        (layer.backward if backward else layer.forward) * batch,
    )
    return flops / rates.flops + nbytes / rates.bytes


def one_device(batch: int, rates: Rates) -> float:
    """Seconds of a step with both towers on one device."""
    total, launches = 0.0, 0
    for stage in network(batch):
        for layer in stage if isinstance(stage, list) else []:
            towers = 1 if layer.name == "fc8" else 2
            total += towers * sum(
                compute_seconds(layer, batch, rates, backward) for backward in (False, True)
            )
            total -= layer.spared * batch / rates.bytes
            launches += towers * 3 * layer.launches
    return max(total, launches * rates.launch)


def two_devices(
    batch: int, rates: Rates, link: float, pictures_cross: bool = False
) -> tuple[list[Span], dict[str, float]]:
    """The time lines of a step, and the seconds that device a and b wait at each boundary.

    The host sends the pictures' bytes to both devices while they still compute. pictures_cross: a
    sends them on, as floats.
    """
    clock, spans, waits = [0.0, 0.0], [], {}
    host = 0.0  # when the host has launched what comes next

    def compute(device: int, layer: Layer, backward: bool) -> None:
        nonlocal host
        begin = max(clock[device], host)
        host += layer.launches * (2 if backward else 1) * rates.launch
        end = max(begin + compute_seconds(layer, batch, rates, backward), host)
        spans.append(Span(device, layer.name + ("'" if backward else ""), begin, end))
        clock[device] = end

    def copy(cross: Cross, backward: bool) -> None:
        if cross.name == "pictures" and (backward or not pictures_cross):
            return  # nobody needs the pictures' gradient
        seconds = cross.bytes * batch / link + LATENCY
        name = cross.name + ("'" if backward else "")
        if cross.both:
            begin = max(clock)
            for device in (0, 1):  # each waits for the other's half
                waits[f"{name} {'ab'[device]}"] = begin + seconds - clock[device]
            clock[:] = [begin + seconds] * 2
        else:  # the pictures go from a to b, fc7 from b to a, and fc7's gradient back
            sender, receiver = (1, 0) if cross.name == "fc7" and not backward else (0, 1)
            begin = clock[sender] if cross.name != "pictures" else 0.0
            waits[f"{name} {'ab'[receiver]}"] = max(0.0, begin + seconds - clock[receiver])
            clock[receiver] = max(clock[receiver], begin + seconds)
        spans.append(Span(2, name, begin, begin + seconds))

    stages = network(batch)
    for backward in (False, True):
        for stage in stages if not backward else stages[::-1]:
            if isinstance(stage, Cross):
                copy(stage, backward)
            else:
                for layer in stage if not backward else stage[::-1]:
                    for device in (0,) if layer.name == "fc8" else (0, 1):
                        compute(device, layer, backward)
    return spans, waits


def link_bytes(batch: int) -> dict[str, tuple[int, int]]:
    """boundary -> bytes a step over the link, forward and backward, both ways together."""
    found = {}
    for stage in network(batch):
        if isinstance(stage, Cross):
            nbytes = int(stage.bytes * batch) * (2 if stage.both else 1)
            found[stage.name] = nbytes, 0 if stage.name == "pictures" else nbytes
    return found


def table(batch: int, rates: Rates, links: dict[str, float]) -> list[str]:
    lines = [
        f"batch {batch}, GEMM {rates.flops / 1e12:.0f} TFLOP/s, "
        f"memory {rates.bytes / 1e12:.1f} TB/s, launch {1e6 * rates.launch:.0f} us",
        "",
        f"{'layer':<8}{'runs on':<9}{'forward ms':>11}{'backward ms':>12}   (one tower's part)",
    ]
    for stage in network(batch):
        for layer in stage if isinstance(stage, list) else []:
            times = [
                1e3 * compute_seconds(layer, batch, rates, backward) for backward in (False, True)
            ]
            where = "a" if layer.name == "fc8" else "a and b"
            lines.append(f"{layer.name:<8}{where:<9}{times[0]:>11.3f}{times[1]:>12.3f}")
    lines += ["", f"{'crosses':<10}{'forward MB':>11}{'backward MB':>12}"]
    crossing = link_bytes(batch)
    pictures = crossing.pop("pictures")[0]
    for name, (there, back) in crossing.items():
        lines.append(f"{name:<10}{there / 1e6:>11.2f}{back / 1e6:>12.2f}")
    total = sum(map(sum, crossing.values()))
    lines += [
        f"a step: {total / 1e6:.1f} MB over the link, both ways together: the least that this "
        f"split needs. (The pictures come",
        f"to both devices from the host, as bytes; as floats from a to b they would be "
        f"{pictures / 1e6:.1f} MB more.)",
        "",
    ]
    alone = one_device(batch, rates)
    lines.append(f"one device: {1e3 * alone:.2f} ms a step")
    for name, link in links.items():
        spans, waits = two_devices(batch, rates, link)
        together = max(span.end for span in spans)
        waiting = [sum(v for k, v in waits.items() if k.endswith(device)) for device in ("a", "b")]
        lines.append(
            f"{name:<7}({link / 1e9:.0f} GB/s): {1e3 * together:.2f} ms, {alone / together:.2f} x "
            f"one device; waiting: a {1e3 * waiting[0]:.2f}, b {1e3 * waiting[1]:.2f} ms"
        )
        crossed = max(span.end for span in two_devices(batch, rates, link, pictures_cross=True)[0])
        free = max(span.end for span in two_devices(batch, rates, 1e18)[0])
        lines.append(
            f"        were the pictures sent from a to b: {alone / crossed:.2f} x; were all copies "
            f"hidden behind work: {alone / free:.2f} x, the most that overlap can give"
        )
        largest = sorted(waits.items(), key=lambda item: -item[1])[:4]
        lines.append(
            "        waits longest at: " + ", ".join(f"{k} {1e3 * v:.2f} ms" for k, v in largest)
        )
    return lines


def draw(spans: list[Span], title: str, path: Path) -> None:
    """The three time lines as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(12, 3))
    colours = {0: "#4878a8", 1: "#6aa84f", 2: "#c8752d"}
    row = {0: 2, 1: 0, 2: 1}
    length = max(span.end for span in spans)
    for span in spans:
        axes.barh(row[span.where], 1e3 * (span.end - span.start), left=1e3 * span.start,
                  color=colours[span.where], edgecolor="white", linewidth=0.5)  # fmt: skip
        if span.end - span.start > 0.02 * length:
            axes.text(5e2 * (span.start + span.end), row[span.where], span.name, ha="center",
                      va="center", fontsize=7, color="white")  # fmt: skip
    axes.set_yticks([0, 1, 2], ["device b", "link", "device a"])
    axes.set_xlabel("ms (a layer's ' is its backward)")
    axes.set_title(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def check(path: Path, batch: int, rates: Rates) -> list[str]:
    """The model beside what benchmarks/gpu.py measured, as far as it did: one device, and two where
    there were two.
    """
    found, lines = json.loads(path.read_text())["found"], []
    alone = one_device(batch, rates)
    together = {
        name: max(s.end for s in two_devices(batch, rates, link)[0]) for name, link in LINKS.items()
    }
    for part, models in (
        (f"rate fp32 {batch}", {"one device": alone}),
        (f"rate fp32 {batch} cuda:0,cuda:1", together),
    ):
        if isinstance(found.get(part), dict):
            model = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in models.items())
            lines.append(
                f"measured, {part}: {1e3 * batch / found[part]['tinynet']:.2f} ms a step; by the "
                f"model: {model}"
            )
    return lines


def measured(path: Path, tf32: bool) -> Rates:
    """Rates from a file of benchmarks/gpu.py: of the products and of memory while a step ran, not
    their peaks.
    """
    found = json.loads(path.read_text())["found"]
    kind = "tf32" if tf32 else "fp32"
    rows = found[f"kernels {kind}"]
    gemm = next(row for row in rows if row["kernel"] == "gemm")
    others = [row for row in rows if row["kernel"] != "gemm"]
    launches = sum(row["calls"] for row in rows)
    return Rates(
        flops=gemm["flops"] / gemm["seconds"],
        bytes=sum(row["bytes"] for row in others) / sum(row["seconds"] for row in others),
        launch=found[f"busy {kind}"]["host"] / launches,
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--link", choices=sorted(LINKS), help="only this one (all three)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--tf32", action="store_true", help="products at the TF32 rate")
    parser.add_argument(
        "--rates",
        type=Path,
        metavar="FILE.json",
        help="measured rates: a result of benchmarks/gpu.py",
    )
    parser.add_argument("--picture", type=Path, metavar="OUT.png", help="draw the time lines")
    args = parser.parse_args(arguments)
    try:
        rates = measured(args.rates, args.tf32) if args.rates else TF32 if args.tf32 else Rates()
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        print(
            f"--rates {args.rates}: expected a result of benchmarks/gpu.py: {error!r}",
            file=sys.stderr,
        )
        return 2
    if args.batch < 1:
        print(f"--batch: expected at least 1, got {args.batch}", file=sys.stderr)
        return 2
    links = {args.link: LINKS[args.link]} if args.link else LINKS
    print("\n".join(table(args.batch, rates, links)))
    if args.rates and not args.tf32:
        print("\n".join(check(args.rates, args.batch, rates)))
    if args.picture:
        name, link = next(iter(links.items())) if args.link else ("nvlink", LINKS["nvlink"])
        draw(
            two_devices(args.batch, rates, link)[0],
            f"AlexNet on two devices, batch {args.batch}, {name}",
            args.picture,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
