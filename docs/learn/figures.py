"""The figures of the course: python docs/learn/figures.py writes them into docs/learn/figures/.

Every number in them is computed here, by tinynet. They are text: tests/learn compares each file
with what this program makes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import kernels, nn
from tinynet.data.idx import read_idx
from tinynet.exercises import EXERCISES
from tinynet.optim import SGD

FOLDER = Path(__file__).parent / "figures"
ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))
from making.picture import CELL, Picture, number  # noqa: E402

FIGURES: dict[str, Callable[[], str]] = {}


def figure(make: Callable[[], Any]) -> Callable[[], Any]:
    """Enter what makes a picture under its function's name."""
    FIGURES[make.__name__.replace("_", "-")] = make
    return make


# ------------------------------------------------------------------ chapter 2


@figure
def order() -> str:
    """b = 2a, c = 3b, L = b + c: visited newest first, and as met."""
    picture = Picture(640, 250, "the same tape visited in the right and in a wrong order")
    walk = EXERCISES["walk"]
    wrong = next(m for m in walk.mistakes if m.__name__ == "as_they_are_met")
    L, _ = walk.example()
    ways = []
    for title, function, then in (
        ("newest first: L, c, b", walk.solution, "c b"),
        ("as they are met: L, b, c", wrong, "b c"),
    ):
        gradients = {step.name[0]: f"{g:g}" for step, g in function(L, 1).items()}
        ways.append((title, gradients, then.split()))
    assert ways[0][1]["b"] == "4"
    ways[0][1]["b"] = "1 + 3 = 4"
    ways[1][1].update(b="1, then 3 more", a=ways[1][1]["a"] + ": wrong")
    for left, (title, gradients, then) in zip((0, 320), ways, strict=True):
        picture.text(left + 150, 24, title, "strong")
        places = {"L": (150, 60), "c": (220, 110), "b": (80, 150), "a": (80, 215)}
        for start, end in (("L", "b"), ("L", "c"), ("c", "b"), ("b", "a")):
            (x0, y0), (x1, y1) = places[start], places[end]
            points = [(left + x0, y0 + 14), (left + x1 + (34 if start == "c" else 0), y1 - 14)]
            picture.path(points, arrow=True)
        for name, (x, y) in places.items():
            picture.box(left + x - 34, y - 14, 68, 28, "shade" if name != "a" else "cell")
            picture.text(
                left + x, y + 5, {"b": "b = 2a", "c": "c = 3b", "L": "L = b+c"}.get(name, name)
            )
            picture.text(left + x + 40, y + 5, gradients[name], "grad left")
            if name in then:
                picture.text(left + x - 46, y + 5, f"{then.index(name) + 2}.", "faint")
        picture.text(left + 104, 65, "1.", "faint")
    return picture.svg()


# ------------------------------------------------------------------ chapter 3


@figure
def repeat() -> str:
    """(2, 1) to (2, 3), and the gradients back."""
    picture = Picture(560, 260, "forward repeats a column, backward sums along the same axis")
    a, dy = np.array([[1], [2]]), np.array([[1.0, 2, 3], [4, 5, 6]])
    x = tinynet.tensor(a.astype(float), requires_grad=True)
    y = x + tinynet.tensor(np.zeros((2, 3)))
    y.backward(dy)
    for top, left, right, label, shade in (
        (50, a, y.numpy(), "forward repeats", "value"),
        (170, x.grad.numpy(), dy, "backward sums", "grad"),
    ):
        picture.text(280, top - 18, label, "strong")
        picture.grid(90, top, left, shade)
        picture.grid(350, top, right, shade)
        ends = [(140, top + CELL), (335, top + CELL)]
        picture.path(ends if shade == "value" else ends[::-1], arrow=True)
    picture.text(107, 32, "x (2, 1)", "faint")
    picture.text(401, 32, "y (2, 3)", "faint")
    picture.text(107, 152, "dx", "faint")
    picture.text(401, 152, "dy", "faint")
    return picture.svg()


# ------------------------------------------------------------------ chapter 4


@figure
def v_curve() -> str:
    """The derivative of x^3 at 1.1, by both ways, for steps from 1 to 1e-16. Products and sums
    alone: every computer gives the same bits.
    """
    picture = Picture(620, 320, "relative error of the derivative of x^3, by the size of the step")
    x, right = 1.1, 3 * 1.1 * 1.1
    left, top, side, high = 80, 30, 30, 15  # pixels a power of ten

    def place(power: int, error: float) -> tuple[float, float]:
        exponent = max(-16.0, round(float(np.log10(max(error, 1e-16))), 1))
        return left + side * (16 - power), top - high * exponent

    for exponent in range(0, -17, -4):
        _, y = place(0, 10.0**exponent)
        picture.path([(left, y), (left + 16 * side, y)])
        picture.text(left - 30, y + 4, f"1e{exponent}" if exponent else "1", "faint")
    for power in range(0, 17, 4):
        picture.text(
            place(power, 1)[0], top + 16 * high + 24, f"1e-{power}" if power else "1", "faint"
        )
    picture.text(left + 8 * side, top + 16 * high + 44, "step", "faint")
    curves: tuple[list, list] = ([], [])
    for power in range(17):
        t = float(f"1e-{power}")
        up, down, z = x + t, x - t, complex(x, t)
        central = (up * up * up - down * down * down) / (2 * t)
        complex_step = (z * z * z).imag / t
        for curve, found in zip(curves, (central, complex_step), strict=True):
            curve.append(place(power, abs(found - right) / right))
    for curve, kind, name, at in zip(
        curves,
        ("w1", "w0"),
        ("central difference", "complex step"),
        ((250, 118), (100, 262)),
        strict=True,
    ):
        picture.path(curve, kind)
        picture.text(*at, name, "left")
    return picture.svg()


# ------------------------------------------------------------------ chapter 5


@figure
def classes() -> str:
    """Three classes, the first one right: from logits to the gradient."""
    picture = Picture(640, 250, "p minus one-hot: the right class is pulled up, others pushed down")
    x, one_hot = np.array([[1.0, 2, 0]]), np.array([1.0, 0, 0])
    _, p = kernels.cross_entropy_forward(x, np.array([0]))
    dx = kernels.cross_entropy_backward(np.ones(1), p, np.array([0]))[0]
    groups = [
        ("logits x", x[0] / 2, x[0], "bar"),
        ("p = softmax", p[0], p[0], "bar"),
        ("one-hot", one_hot, one_hot, "bar"),
        ("p - one-hot", dx, dx, "barg"),
    ]
    base, high = 130, 80
    for left, (title, heights, values, kind) in zip((30, 185, 340, 495), groups, strict=True):
        picture.text(left + 55, 24, title, "strong")
        picture.path([(left - 5, base), (left + 115, base)])
        for k, (height, value) in enumerate(zip(heights, values, strict=True)):
            size = round(high * abs(float(height)), 1)
            top = base - size if height > 0 else base
            picture.box(left + 40 * k, top, 30, size, kind)
            at = top - 6 if height >= 0 else top + size + 16
            picture.text(left + 40 * k + 15, at, number(value))
    picture.text(320, 235, "the first class is right", "faint")
    return picture.svg()


# ------------------------------------------------------------------ chapter 6


@figure
def stamps() -> str:
    """Each output stamps the kernel, times its dy, onto the window it saw."""
    picture = Picture(720, 330, "dx is the sum of the stamps that the outputs leave")
    w, dy = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 0], [2, 1]])
    x = np.zeros((1, 1, 3, 3))
    needs = (True, False, False)
    for n, (oh, ow) in enumerate(np.ndindex(2, 2)):
        one = np.zeros((2, 2))
        one[oh, ow] = dy[oh, ow]
        dx, _, _ = kernels.conv2d_backward(
            one[None, None], x, w[None, None], (1, 1), (0, 0), 1, needs
        )
        left, top = 20 + 140 * n, 60
        picture.text(left + 51, 24, f"output ({oh}, {ow})", "strong")
        picture.text(left + 51, 44, f"dy = {dy[oh, ow]:g}", "grad")
        shade = np.zeros((3, 3))
        shade[oh : oh + 2, ow : ow + 2] = 1
        picture.grid(left, top, dx[0, 0], "grad", shade)
        picture.text(left + 121, top + 56, "+" if n < 3 else "", "strong")
    dx, _, _ = kernels.conv2d_backward(dy[None, None], x, w[None, None], (1, 1), (0, 0), 1, needs)
    picture.text(180, 262, "dx =", "strong")
    picture.grid(230, 205, dx[0, 0], "grad")
    picture.text(470, 230, "the kernel", "faint")
    picture.grid(436, 240, w, "value")
    return picture.svg()


# ------------------------------------------------------------------ chapter 7


@figure
def pool() -> str:
    """Four overlapping windows and one winner."""
    picture = Picture(640, 250, "overlapping windows: one pixel wins in four of them")
    x = np.array(
        [[1.0, 5, 2, 0, 3], [0, 4, 1, 7, 2], [3, 0, 9, 1, 0], [1, 0, 2, 6, 1], [4, 2, 0, 3, 8]]
    )
    rule = (3, 3), (2, 2), (0, 0)
    _, winner = kernels.max_pool2d_forward(x[None, None], *rule, False)
    dy = np.array([[1.0, 2], [4, 8]])
    dx = kernels.max_pool2d_backward(dy[None, None], winner, (1, 1, 5, 5), *rule)[0, 0]
    picture.text(105, 24, "x", "strong")
    picture.grid(20, 40, x, "value", dx != 0)
    for n, (oh, ow) in enumerate(np.ndindex(2, 2)):
        left, top, shift = 20 + 2 * ow * CELL, 40 + 2 * oh * CELL, 3 * n - 5
        picture.box(left + shift, top + shift, 3 * CELL, 3 * CELL, f"w{n}")
    picture.text(285, 24, "dy", "strong")
    picture.grid(251, 40, dy, "grad")
    for n, (oh, ow) in enumerate(np.ndindex(2, 2)):
        picture.box(254 + ow * CELL, 43 + oh * CELL, CELL - 6, CELL - 6, f"w{n}")
    picture.text(465, 24, "dx", "strong")
    picture.grid(380, 40, dx, "grad", dx != 0)
    return picture.svg()


# ------------------------------------------------------------------ chapter 8


@figure
def lrn() -> str:
    """What moves when one channel moves, by the Jacobian of the kernel."""
    picture = Picture(640, 260, "channel 1 acts on its own output, and on those of its neighbours")
    x = np.array([[2.0, 1, 0, 3]])
    rows = []
    for c in range(4):
        unit = np.eye(4)[c : c + 1]
        rows.append(kernels.local_response_norm_backward(unit, x, 3, 3.0, 1.0, 1.0)[0])
    jacobian = np.array(rows)  # d y_c / d x_m
    for c in range(4):
        left = 80 + 130 * c
        picture.box(left, 40, 70, 30, "meet" if c == 1 else "cell")
        picture.text(left + 35, 60, f"x{c} = {x[0, c]:g}", "value")
        picture.box(left, 190, 70, 30, "shade")
        picture.text(left + 35, 210, f"y{c}")
        if abs(c - 1) <= 1:
            picture.path([(245, 72), (left + 35, 186)], arrow=True)
            if c == 1:
                picture.text(252, 174, "direct, shared", "faint left")
            else:
                picture.text(left + 35, 130, "shared", "faint")
        picture.text(left + 35, 245, f"{number(jacobian[c, 1])}", "grad")
    picture.text(35, 60, "x", "strong")
    picture.text(35, 210, "y", "strong")
    picture.text(35, 245, "dy/dx1", "grad")
    return picture.svg()


@figure
def dropout() -> str:
    """A mask drawn by our rule, and the same cells of y and dx."""
    picture = Picture(640, 190, "dropout: the mask of forward is the mask of backward")
    x, dy = np.full((3, 4), 3.0), np.arange(1.0, 13).reshape(3, 4)
    y, mask = kernels.dropout_forward(x, 0.5, 0, 1)
    dx = kernels.dropout_backward(dy, mask, 0.5)
    for left, title, values, kind in (
        (20, "mask", mask, ""), (175, "y, of x = 3", y, "value"),
        (330, "dy", dy, "grad"), (485, "dx", dx, "grad"),
    ):  # fmt: skip
        picture.text(left + 2 * CELL, 24, title, "strong")
        picture.grid(left, 45, values, kind, mask)
    picture.text(320, 172, "p = 0.5: what is kept is doubled", "faint")
    return picture.svg()


# ------------------------------------------------------------------ chapter 9


@figure
def kept() -> str:
    """The bytes that each operation of the chapter's net keeps."""
    picture = Picture(640, 220, "bytes kept for backward, two pictures of 9x9")
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, relu=True),
        nn.LocalResponseNorm(5),
        nn.MaxPool2d(3, stride=2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )
    pictures = tinynet.tensor(np.zeros((2, 1, 9, 9), np.float32))
    loss = F.cross_entropy(net(pictures), np.array([3, 7]))
    boxes = [b for b in tinynet.draw(loss, net).graph.steps[::-1] if b.title not in ("Sum", "Div")]
    for n, box in enumerate(boxes):
        y = 24 + 32 * n
        picture.text(20, y + 14, box.title, "left")
        picture.box(180, y, max(box.kept * 360 / boxes[0].kept, 1), 20, "bar")
        picture.text(190 + box.kept * 360 / boxes[0].kept, y + 14, f"{box.kept:,}", "left faint")
    return picture.svg()


@figure
def valley() -> str:
    """25 steps down f = (x^2 + 20 y^2) / 2, rate 0.09: plain, and with momentum."""
    picture = Picture(640, 300, "a long valley: plain descent, and descent with momentum")
    slope = np.array([1.0, 20.0])

    def place(w: Any) -> tuple[float, float]:
        return 166 + 62 * float(w[0]), 150 - 85 * float(w[1])

    for level in (2, 8, 24):
        across, along = np.sqrt(level / 10), np.sqrt(2 * level)
        turn = np.linspace(0, 2 * np.pi, 61)
        picture.path(
            [place(w) for w in zip(along * np.cos(turn), across * np.sin(turn), strict=True)]
        )
    for kind, momentum, name, y in (("w1", 0.0, "plain", 40), ("w0", 0.5, "momentum 0.5", 62)):
        w, v = np.array([7.0, 1.0]), np.zeros(2)
        way = [place(w)]
        for _ in range(25):
            kernels.sgd_step(w, slope * w, v, 0.09, momentum, 0.0)
            way.append(place(w))
        picture.path(way, kind)
        picture.path([(20, y), (60, y)], kind)
        picture.text(70, y + 4, name, "left")
    return picture.svg()


# ------------------------------------------------------------------ chapter 10 and the capstone


def mini(**options: Any) -> Any:
    sys.path.insert(0, str(ROOT / "examples"))
    from alexnet import AlexNet

    sys.path.remove(str(ROOT / "examples"))
    tinynet.manual_seed(0)
    return AlexNet(10, "mini", ("cpu", "cpu:1"), in_channels=1, **options)


@figure
def towers() -> str:
    """The towers of mini, and the bytes of each copy for 64 pictures: measured with one."""
    picture = Picture(640, 520, "two towers, and what crosses between them")
    net = mini()
    one = tinynet.tensor(np.zeros((1, 1, 28, 28), np.float32))
    with tinynet.profile() as profile, tinynet.no_grad():
        net(one)
    copies = [64 * event.bytes // 2 for event in profile.events if event.operation == "Copy"]
    across = {"conv1": copies[:1], "conv3": copies[1:3], "fc6": copies[3:5], "fc7": copies[5:7]}
    across["fc8"] = copies[7:]
    picture.text(150, 24, "tower a, on cpu", "strong")
    picture.text(490, 24, "tower b, on cpu:1", "strong")
    layers = ["pictures", "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    for row, layer in enumerate(layers):
        y = 44 + 52 * row
        for x, tower in ((150, net.a), (490, net.b)):
            if x == 490 and layer in ("pictures", "fc8"):
                continue
            picture.box(x - 75, y, 150, 30, "shade" if row else "cell")
            weight = getattr(getattr(tower, layer, None), "weight", None)
            size = "" if weight is None else f" {weight.shape[1]} > {weight.shape[0]}"
            picture.text(x, y + 20, layer + size)
            if row:
                picture.path([(x, y - 22), (x, y - 2)], arrow=True)
        if layer in across:
            both = len(across[layer]) == 2
            ways = [(238, 402), (402, 238)] if both else [(238, 402)]
            for n, (start, end) in enumerate(ways if layer != "fc8" else [(402, 238)]):
                picture.path([(start, y - 18 + 14 * n), (end, y - 18 + 14 * n)], arrow=True)
            each = " each way" if both else ""
            picture.text(320, y - 26, f"{across[layer][0]:,} bytes{each}", "grad")
    return picture.svg()


@figure
def loss() -> str:
    """Eight steps of the capstone's training."""
    picture = Picture(640, 260, "the loss of eight steps on eight pictures")
    folder = ROOT / "tinynet" / "data" / "fashion"
    pictures = read_idx(folder / "t10k-images-idx3-ubyte.gz")[:8, None, ::2, ::2]
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")[:8]
    net = mini(image_size=14)
    optimizer = SGD(net.param_groups(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    points = []
    for step in range(8):
        optimizer.zero_grad()
        x = tinynet.tensor((pictures.astype(np.float32) - 60) / 64)
        value = F.cross_entropy(net(x), labels)
        value.backward()
        optimizer.step()
        points.append((90.0 + 70 * step, 220 - 80 * value.item()))
        picture.text(90 + 70 * step, 244, step, "faint")
    for level in (0, 1, 2):
        picture.path([(70, 220 - 80 * level), (600, 220 - 80 * level)])
        picture.text(50, 224 - 80 * level, level, "faint")
    picture.path(points, "w1")
    return picture.svg()


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, make in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(make(), encoding="utf-8")
        print(f"{name}.svg")


if __name__ == "__main__":
    main()
