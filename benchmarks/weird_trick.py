"""How AlexNet scales over many devices, by a model: plain data parallelism, three schemes of "One
weird trick", and the exchange of factors.

    python benchmarks/weird_trick.py [--rate 3861] [--batch 128] [--out PICTURE]

K devices hold b examples each. A layer of I inputs and O outputs has I O weights. Seconds of a step
(s_conv, s_fc: to compute the convolutions, the fully connected layers, for b examples, forward and
backward, which takes twice as long as forward), bytes that a device sends (4 a number), B the
link's bytes a second, A seconds until a message arrives, and n messages of a collective:

    data     every gradient is summed:       bytes 8 (K-1)/K (all weights), while backward goes on
    all      conv data parallel; each device holds 1/K of the fully connected neurons and sees the
             examples of all: K b of them. bytes 4 (K-1) b (2 * 9216 + 4 * 4096 + 1000): inputs and
             their gradients once each way, the outputs of fc6, fc7 and fc8 among the devices
    turns    the same, one device's b examples after the other's: one sender at a time, while the
             examples before are computed
    slices   the same, b/K of each device in every turn: all senders at a time, computed meanwhile
    factors  weights stay whole. dw = dy^T x needs x and dy of all examples, and no sum of I O
             numbers: bytes 4 (K-1) b (I + O) for each layer. Each device computes dw of all K b
             examples: (K-1) times one third of s_fc more

The gradients of the convolutions are summed in all five, while backward goes on.

Sources: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
section 4 (a, b, c: all, turns, slices); Xie et al., "Distributed machine learning via sufficient
factor broadcasting", 2014.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

CONV, FC = 2_334_080, 58_631_144  # weights: kernels and biases; fully connected layers
LAYERS = ((9216, 4096), (4096, 4096), (4096, 1000))  # fc6, fc7, fc8: inputs, outputs
MACS = 665_784_864, 58_621_952  # multiplications of a picture, forward
BUCKETS = 16  # of the gradients, each a collective of its own
DEVICES = [2**k for k in range(1, 11)]


class Link(NamedTuple):
    """bytes a second that a device sends and receives; seconds of a message."""

    name: str
    speed: float
    delay: float


class Case(NamedTuple):
    """K devices with b examples each, images a second of one device alone, the link."""

    K: int
    b: int
    rate: float
    link: Link

    @property
    def s_conv(self) -> float:
        return self.b / self.rate * MACS[0] / sum(MACS)

    @property
    def s_fc(self) -> float:
        return self.b / self.rate * MACS[1] / sum(MACS)

    def seconds(self, sent: float, collectives: int) -> float:
        return sent / self.link.speed + collectives * 2 * math.log2(self.K) * self.link.delay


# What a link has of its nominal speed in practice, to be replaced by what you have measured:
# benchmarks/ranks.py measures it.
LINKS = [
    Link("Ethernet, 10 Gb/s", 1.1e9, 30e-6),
    Link("InfiniBand, 200 Gb/s", 22e9, 3e-6),
    Link("NVLink 4, 450 GB/s", 350e9, 5e-6),
]


def summed(weights: int, K: int) -> float:
    """Bytes that each device sends to sum the gradients of so many weights, by a ring."""
    return 8 * (K - 1) / K * weights


def exchanged(K: int, b: int) -> float:
    """Bytes that each device sends where the neurons are divided."""
    inputs, hidden, classes = LAYERS[0][0], LAYERS[1][0], LAYERS[2][1]
    return 4 * (K - 1) * b * (2 * inputs + 4 * hidden + classes)


def factors_sent(K: int, b: int) -> float:
    """Bytes that each device sends of the factors of the three layers."""
    return 4 * (K - 1) * b * sum(inputs + outputs for inputs, outputs in LAYERS)


def data(c: Case) -> float:
    forward = (c.s_conv + c.s_fc) / 3
    return forward + c.s_fc * 2 / 3 + max(c.s_conv * 2 / 3, c.seconds(summed(CONV + FC, c.K), 16))


def conv_backward(c: Case) -> float:
    """Backward through the convolutions, while their gradients are summed."""
    return max(c.s_conv * 2 / 3, c.seconds(summed(CONV, c.K), 1))


def all_at_once(c: Case) -> float:
    return c.s_conv / 3 + c.s_fc + c.seconds(exchanged(c.K, c.b), 6) + conv_backward(c)


def turns(c: Case) -> float:
    """The inputs of one device at a time leave by one link; what neurons exchange by all."""
    inputs = 8 * (c.K - 1) * c.b * LAYERS[0][0]
    one_at_a_time = c.K * inputs / 2  # as many bytes, and K - 1 of K links idle; half by pipelining
    sent = one_at_a_time + exchanged(c.K, c.b) - inputs
    fc = max(c.s_fc, c.seconds(sent, 6 * c.K))
    return c.s_conv / 3 + fc + conv_backward(c)


def slices(c: Case) -> float:
    exchange = c.seconds(exchanged(c.K, c.b), 6 * c.K)
    fc = max(c.s_fc, exchange) + min(c.s_fc, exchange) / c.K
    return c.s_conv / 3 + fc + conv_backward(c)


def factors(c: Case) -> float:
    sent = factors_sent(c.K, c.b) + summed(CONV, c.K)
    again = (c.K - 1) * c.s_fc / 3
    forward = (c.s_conv + c.s_fc) / 3
    return forward + c.s_fc * 2 / 3 + max(c.s_conv * 2 / 3, c.seconds(sent, 7)) + again


SCHEMES: dict[str, Callable[[Case], float]] = {
    "data": data,
    "all": all_at_once,
    "turns": turns,
    "slices": slices,
    "factors": factors,
}


def share(scheme: str, case: Case) -> float:
    """Images a second of K devices, of K times those of one alone."""
    return case.b / case.rate / SCHEMES[scheme](case)


def table(rate: float, b: int, links: list[Link]) -> str:
    """Markdown: for each link and number of devices the best scheme, and what it reaches."""
    lines = ["| devices | " + " | ".join(link.name for link in links) + " |"]
    lines.append("|---" * (len(links) + 1) + "|")
    for K in DEVICES:
        cells = []
        for link in links:
            shares = {scheme: share(scheme, Case(K, b, rate, link)) for scheme in SCHEMES}
            best = max(shares, key=lambda scheme: shares[scheme])
            plain = f" (data {shares['data']:.0%})" if best != "data" else ""
            cells.append(f"{best} {shares[best]:.0%}{plain}")
        lines.append(f"| {K:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(path: Path, rate: float, b: int, links: list[Link]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(links), figsize=(11, 3.6), sharey=True)
    for panel, link in zip(panels, links, strict=True):
        for scheme in SCHEMES:
            shares = [100 * share(scheme, Case(K, b, rate, link)) for K in DEVICES]
            panel.plot(DEVICES, shares, label=scheme, linewidth=3 if scheme == "data" else 1.5)
        panel.set(xscale="log", title=link.name, xlabel="devices", ylim=(0, 105))
        panel.set_xticks([2, 16, 128, 1024], ["2", "16", "128", "1,024"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("% of K times one device")
    panels[0].legend()
    figure.suptitle(f"AlexNet, {b} pictures a device, {rate:,.0f} pictures/s each: by the model")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    # V100 with TensorFlow, as published for 2017's; no GPU of ours has been measured
    parser.add_argument("--rate", type=float, default=3861, help="images/s of one device (3861)")
    parser.add_argument("--batch", type=int, default=128, help="examples a device (128)")
    parser.add_argument(
        "--link", nargs=3, action="append", metavar=("NAME", "GB/S", "US"), help="other links"
    )
    parser.add_argument("--out", type=Path, help="draw the picture there")
    args = parser.parse_args()
    links = [Link(name, 1e9 * float(s), 1e-6 * float(d)) for name, s, d in args.link or ()] or LINKS
    print(table(args.rate, args.batch, links))
    if args.out:
        draw(args.out, args.rate, args.batch, links)


if __name__ == "__main__":
    main()
