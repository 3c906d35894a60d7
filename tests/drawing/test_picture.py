"""Pictures and pages, read back as text: what is there at which step, and where."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import combinations, product
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.drawing import Drawing
from tinynet.drawing.graph import Box, Graph, Output
from tinynet.drawing.layout import lay_out
from tinynet.drawing.lines import lines_of
from tinynet.drawing.style import DARK, LIGHT, page_style, svg_style
from tinynet.drawing.svg import svg
from tinynet.drawing.text import brief, full, shape, size
from tinynet.tracer import Value

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
NO_END = {"meta", "input", "br", "path", "rect"}


def leaf(values):
    return tinynet.tensor(values, requires_grad=True)


def tape():
    x, y = leaf(-2.0), leaf(5.0)
    with tinynet.tracing():
        q = x * y
        loss = q + x * q
    return loss


class Page(HTMLParser):
    """The texts of a page, each with the elements that it lies in."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.texts, self.elements = [], [], []
        self.feed(text)
        assert not self.open, "not closed"

    def handle_starttag(self, tag, attributes):
        element = tag, dict(attributes)
        self.elements.append(element)
        if tag not in NO_END:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((data.strip(), list(self.open)))

    def without_script(self):
        """What is seen if the script does not run."""
        return [
            text
            for text, inside in self.texts
            if not any(
                "hidden" in (a.get("class") or "").split() or "hidden" in a for _, a in inside
            )
        ]

    def at(self, step, kind=""):
        """What is seen after a step, as steps.js does it; of that class only."""
        seen = []
        for text, inside in self.texts:
            if kind not in inside[-1][1].get("class", ""):
                continue
            spans = [(int(a["data-from"]), a.get("data-to")) for _, a in inside if "data-from" in a]
            if all(first <= step and (to is None or step < int(to)) for first, to in spans):
                seen.append(text)
        return seen


def page_of(drawing, tmp_path, name="tape.html"):
    return Page(drawing.save(tmp_path / name).read_text())


def keys(page):
    """device -> its colour, as the page explains it."""
    names = [text for text, inside in page.texts if inside[-1][1].get("class") == "key"]
    colours = [style for tag, a in page.elements if tag == "i" and (style := a.get("style"))]
    return dict(zip(names, re.findall(r"var\(--(d\d)\)", "".join(colours)), strict=True))


def grads(seen):
    return [text for text in seen if text.startswith("grad ")]


def test_the_page_shows_each_step(tmp_path):
    page = page_of(tinynet.draw(tape()), tmp_path)
    assert grads(page.at(0)) == ["grad 1"]
    assert grads(page.at(1)) == ["grad 1", "grad 1"]  # the loss and q
    assert grads(page.at(2)) == ["grad -10", "grad 1 + -2 = -1", "grad 1"]  # x, q, the loss
    assert grads(page.at(3)) == ["grad -10 + -5 = -15", "grad 2", "grad 1 + -2 = -1", "grad 1"]
    assert "Forward is done" in page.at(0) and "Forward is done" not in page.at(1)
    assert [t for t in page.at(2) if t.endswith(" = ")] == []
    told = " ".join(page.at(3))
    assert "to x : -1 \u00d7 5 = -5" in told and "+= -10 + -5 = -15 the gradients of x meet" in told
    assert "y = a b da = dy b, db = dy a" in told and "q = x * y" in told
    titles = [t for t, inside in page.texts if inside[-1][0] == "h3"]
    assert titles == ["Forward is done", "Add", "Mul", "Mul"]


class Acts(nn.Module):
    def __init__(self):
        self.first, self.act = nn.Linear(2, 2), nn.ReLU()
        self.rest = nn.Sequential(nn.Tanh(), nn.Linear(2, 2))

    def forward(self, x):
        return F.exp(self.rest(self.act(self.first(x)))).sum()


def test_a_section_says_in_which_module_an_operation_is_and_after_which(tmp_path):
    """A box has room for one of the two: a number says less than what it comes after."""
    net = Acts()
    with tinynet.tracing(net):
        loss = net(tinynet.tensor(np.ones((1, 2), np.float32)))
    drawing = tinynet.draw(loss)
    page = page_of(drawing, tmp_path)
    titles = [t for t, inside in page.texts if inside[-1][0] == "h3"]
    assert titles == [
        "Forward is done", "Sum after rest.layers.1", "Exp after rest.layers.1",
        "Linear rest.layers.1", "Tanh rest.layers.0, after first", "ReLU act, after first",
        "Linear first",
    ]  # fmt: skip
    boxes = [[*lines_of(box, drawing.graph)] for box in drawing.graph.steps if box.path]
    places = [lines[1].parts[0].words for lines in boxes]
    assert places == ["rest.layers.1", "after first", "act", "first"]


class First(tinynet.Function):
    """The first of two; backward gives the other one nothing."""

    @staticmethod
    def forward(ctx, one, other):
        return one

    @staticmethod
    def backward(ctx, dy):
        return dy, None


def test_a_tensor_that_needs_no_gradient_is_told_with_its_value(tmp_path):
    """Not a result that only gets none."""
    w, c = leaf(2.0), tinynet.tensor(3.0)
    with tinynet.tracing():
        made = w * 2.0
        loss = First.apply(w * c, made)
    text = tinynet.draw(loss).save(tmp_path / "a.html").read_text()
    found = re.findall(r'>([^<>]*<code class="value">[^<>]*</code> needs no gradient)', text)
    assert found == ['c <code class="value">3</code> needs no gradient']
    assert "no gradient" not in tinynet.draw(w * 2.0).save(tmp_path / "b.html").read_text()


def said(drawing, tmp_path):
    """The paragraphs of each step of a page, as text; of a source line without its number."""
    text = drawing.save(tmp_path / "a.html").read_text().replace("<br>", "; ")
    for section in re.findall(r"<section.*?</section>", text, re.S)[1:]:
        plain = (re.sub("<[^>]*>", "", p) for p in re.findall("<p>(.*?)</p>", section))
        yield [re.sub(r"^test_picture.py:\d+ ", "", unescape(p)) for p in plain]


class Scaled(nn.Module):
    def __init__(self):
        self.scale = nn.Parameter(np.array([2.0, 3.0]))

    def forward(self, x):
        return F.softmax(x * self.scale, 0)


def test_what_a_page_says_of_each_step_word_by_word(tmp_path):
    """All that is known of an operation is told, and nothing that is not."""
    net, x = Scaled(), leaf([0.0, 0.0])
    with tinynet.tracing(net):
        y = net(x)
        part = y[:1]
        loss = (part * part).sum()
    kept = "kept for backward: "
    nothing = kept + "nothing that was not kept already"
    after = [
        [
            "loss = (part * part).sum()", "y = sum of x over axes; dx = dy, repeated along them",
            "on cpu", "options axis=None, keepdims=False", "loss 0.25", "arrives: 1",
            "to Mul: 1 \u00d7 [1] = [1]", nothing,
        ],
        [
            "loss = (part * part).sum()", "y = a b; da = dy b, db = dy a", "on cpu",
            "result [0.25]", "arrives: [1]", *["to part: [1] \u00d7 [0.5] = [0.5]"] * 2,
            "+= [0.5] + [0.5] = [1] the gradients of part meet, and are added", nothing,
        ],
        [
            "part = y[:1]", "y = x[key]; dx = dy added into zeros at key", "on cpu",
            "options key=slice(None, 1, None)", "part [0.5]", "arrives: [1]",
            "to y: [1] \u00d7 [1, 0] = [1, 0]", nothing,
        ],
    ]  # fmt: skip
    inside = [
        [
            "return F.softmax(x * self.scale, 0)",
            "y = exp(x) / sum exp(x); dx = y (dy - sum(dy y))", "on cpu", "options axis=0",
            "y [0.5, 0.5]", "arrives: [1, 0]",
            "J of Mul, a row for each element of the result: [[0.25, -0.25], [-0.25, 0.25]]",
            "to Mul: dy J = [0.25, -0.25]", kept + "16 bytes",
        ],
        [
            "return F.softmax(x * self.scale, 0)", "y = a b; da = dy b, db = dy a", "on cpu",
            "result [0, 0]", "arrives: [0.25, -0.25]",
            "to x: [0.25, -0.25] \u00d7 [2, 3] = [0.5, -0.75]",
            "to scale: [0.25, -0.25] \u00d7 [0, 0] = [0, 0]",
            kept + "8 bytes and 16 bytes of parameters, which are there anyway",
        ],
    ]  # fmt: skip
    assert [*said(tinynet.draw(loss), tmp_path)] == after + inside
    fold = [
        "on cpu", "holds Mul, Softmax", "y [0.5, 0.5]", "arrives: [1, 0]", "to x: [0.5, -0.75]",
        "to scale: [0, 0]", kept + "24 bytes and 16 bytes of parameters, which are there anyway",
    ]  # fmt: skip
    assert [*said(tinynet.draw(loss, group=1), tmp_path)] == [*after, fold]
    graph = tinynet.draw(loss, group=1).graph
    boxes = [[[part.words for part in line.parts] for line in lines_of(b, graph)]
             for b in graph.shown[:2]]  # fmt: skip
    assert boxes[0][0] == ["x", "2"]
    scale = ["scale", "2", "[0, 0]"]
    assert boxes[1] == [["y = Scaled"], ["2 operations"], scale, ["keeps 24 bytes"]]


def test_what_a_page_says_of_a_tape_that_was_not_traced(tmp_path):
    """A result without a name is called as its operation, a leaf as the argument that it is."""
    drawing = tinynet.draw((leaf([1.0, 2.0]) * leaf([2.0, 1.0])).exp())
    assert [*said(drawing, tmp_path)] == [
        [
            "y = e^x; dx = dy y", "on cpu", "result [7.389, 7.389]", "arrives: [1, 1]",
            "to Mul: [1, 1] \u00d7 [7.389, 7.389] = [7.389, 7.389]", "kept for backward: 8 bytes",
        ],
        [
            "y = a b; da = dy b, db = dy a", "on cpu", "result has shape 2",
            "arrives: [7.389, 7.389]",
            "to argument 0: [7.389, 7.389] \u00d7 [2, 1] = [14.78, 7.389]",
            "to argument 1: [7.389, 7.389] \u00d7 [1, 2] = [7.389, 14.78]",
            "kept for backward: 16 bytes",
        ],
    ]  # fmt: skip


def test_devices_and_copies(tmp_path):
    x = leaf([1.0, 2.0])
    there = x.to("cpu:1")
    drawing = tinynet.draw((there * 2.0).to("cpu").sum())
    page = page_of(drawing, tmp_path)
    seen = page.at(0)
    assert "there = Copy cpu \u2192 cpu:1" in seen and "Copy cpu:1 \u2192 cpu" in seen
    assert keys(page) == {"cpu": "d0", "cpu:1": "d1"}
    told = " ".join(t for t, _ in page.texts)
    assert "copies from cpu to cpu:1" in told and "copies from cpu:1 to cpu" in told
    root = ElementTree.fromstring(drawing.save(tmp_path / "a.svg").read_text())
    boxes = [g.get("class") for g in root.iter(f"{SVG}g") if g.get("class")]
    assert [b.removeprefix("box ") for b in boxes] == [
        "leaf d0", "operation copy d0", "operation d1", "operation copy d1", "operation d0",
    ]  # fmt: skip
    arrows = [path.get("class") for path in root.iter(f"{SVG}path") if path.get("class")]
    assert arrows == ["arrow copied", "arrow", "arrow copied", "arrow"]
    lit = [path.get("data-step") for path in root.iter(f"{SVG}path") if path.get("class")]
    assert lit == ["4", "3", "2", "1"]


def test_a_device_has_one_colour_whichever_comes_first(tmp_path):
    x = tinynet.tensor([1.0, 2.0], device="cpu:1", requires_grad=True)
    drawing = tinynet.draw((x.to("cpu") * 2.0).sum())
    assert keys(page_of(drawing, tmp_path)) == {"cpu": "d0", "cpu:1": "d1"}
    root = ElementTree.fromstring(drawing.save(tmp_path / "a.svg").read_text())
    boxes = [g.get("class") for g in root.iter(f"{SVG}g") if g.get("class")]
    assert boxes == ["box leaf d1", "box operation copy d1", *["box operation d0"] * 2]


def test_norms_are_not_added(tmp_path):
    x = leaf(np.ones(20))
    page = page_of(tinynet.draw((x * 2.0 + x * 3.0).sum()), tmp_path)
    assert grads(page.at(3)) == ["grad \u201613.42\u2016", "grad 1"]
    assert grads(page.at(4)) == ["grad += \u20168.944\u2016 \u2192 \u201622.36\u2016", "grad 1"]
    assert "+= 20, norm 22.36, from 5 to 5 the gradients of x meet" in " ".join(page.at(4))


def test_the_gradients_on_the_page_are_those_of_backward(tmp_path):
    net, loss = net_of_blocks(2)
    drawing = tinynet.draw(loss)
    page = page_of(drawing, tmp_path)
    told = " ".join(text for text, _ in page.texts)
    assert page.at(0, "grad") == ["grad 1", "the gradient"]  # the second explains the colour
    gradients = [edge.gradient for edge in drawing.graph.edges if edge.gradient]
    assert len(gradients) > 12 and {brief(g) for g in gradients} <= set(page.at(99))
    loss.backward()
    for name, p in net.named_parameters():
        value = Value.of(p.grad.data, p.device)
        assert f"to {name} : {full(value)} " in told
        if name == "layers.0.first.weight":
            assert f"{size(p.data.nbytes)} of parameters, which are there anyway" in told
        short = next(t for t, inside in page.texts if t == name.rpartition(".")[2])
        assert f"{short} {shape(p.shape)} {brief(value)} " in told


def test_the_script_finds_what_it_looks_for(tmp_path):
    text = tinynet.draw(tape()).save(tmp_path / "a.html").read_text()
    page, looked_for = text.split("<script>")
    found = re.findall(r"querySelector(?:All)?\([^\"'`]*[\"'`](.*?)[\"'`]\)", looked_for)
    assert len(found) >= 8
    set_by_it = {"data-ready", "not", "now"}
    for name in set(re.findall(r"[a-z-]+", " ".join(found))) - set_by_it:
        assert name in page, name


def test_where_the_script_goes_and_what_it_hides():
    """What it computes, as Python: after step 3 of 7."""
    script = (ROOT / "tinynet/drawing/steps.js").read_text()
    python = {"||": " or ", "Number": "float", "Math.": "", "e.dataset.from": "first"}

    def value(pattern, **names):
        (found,) = re.findall(pattern, script)
        for js, ours in python.items():
            found = found.replace(js, ours)
        return eval(found, {"max": max, "min": min, "step": 3, "last": 7, **names})

    for k, step in ((-1, 0), (0, 0), (3, 3), (7, 7), (8, 7)):
        assert value(r"    step = (Math.*);", k=k) == step
    buttons = [rf"\b{name}: \(\) => ([^,}}]*)" for name in ("first", "back", "on", "last")]
    keys = [rf"\b{name}: ([^,}}]*)" for name in ("Home", "ArrowLeft", "ArrowRight", "End")]
    assert [value(w) for w in buttons] == [value(w) for w in keys] == [0, 2, 4, 7]
    for first, until in product(range(9), (*range(9), np.inf)):
        hidden = value(r'toggle\("hidden", (.*)\);', first=first, until=until)
        assert hidden == (not first <= 3 < until)


def test_without_a_script_the_last_step_is_seen(tmp_path):
    for drawing in (tinynet.draw(tape()), tinynet.draw(F.relu(leaf([1.0])))):
        page = page_of(drawing, tmp_path)
        last = len(drawing.graph.steps)
        controls = {text for text, inside in page.texts if any(t == "button" for t, _ in inside)}
        assert page.without_script() == [t for t in page.at(last) if t not in controls]


def test_everything_is_inside(tmp_path):
    drawing = tinynet.draw(tape())
    for name in ("tape.svg", "tape.html"):
        text = drawing.save(tmp_path / name).read_text()
        assert set(re.findall(r"https?://[^\"'\s)]*", text)) == {"http://www.w3.org/2000/svg"}
        assert not re.search(r"@import|\bsrc=|\bhref=|fetch\(|import\(|url\((?!#)", text)
    assert (
        "<html" not in drawing._repr_html_() and 'class="tinynet-drawing"' in drawing._repr_html_()
    )
    # a page alone takes the keys wherever they are pressed, a notebook's drawing does not
    assert "data-page>" in text and "data-page>" not in drawing._repr_html_()


def test_the_ends_of_a_path(tmp_path):
    drawing = tinynet.draw(tape())
    again = tinynet.draw(tape())
    pages = [each.save(tmp_path / "a.html").read_text() for each in (drawing, again)]
    assert pages[0] == pages[1]
    assert drawing.save(str(tmp_path / "a.svg")) == tmp_path / "a.svg"
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag == f"{SVG}svg"
    for wrong in ("tape", "tape.png", "tape.htm"):
        with pytest.raises(ValueError, match="a path that ends in .svg or .html, got '.*tape"):
            drawing.save(tmp_path / wrong)
    assert repr(drawing).startswith("Drawing(3 operations on cpu; 12 bytes kept")


class Two(tinynet.Function):
    """Twice, and three times."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x, 3 * x

    @staticmethod
    def backward(ctx, dtwice, dthrice):
        return 2 * dtwice + 3 * dthrice


def test_no_name_becomes_html(tmp_path):
    """Of a leaf, of results, of the loss, of a module; and no source line."""
    wild, matrix, net = leaf([1.0, 3.0]), leaf(np.ones((1, 2))), nn.Sequential()
    setattr(net, "<i>", nn.Tanh())
    with tinynet.tracing(net):
        middle = getattr(net, "<i>")(wild)  # <i>
        loss = (matrix @ middle + (middle * middle).sum()).sum()
    names = {"wild": wild, "matrix": matrix, "middle": middle, "loss": loss}
    drawing = tinynet.draw(loss, names={f'<b>&"</script>{name}': x for name, x in names.items()})
    page = page_of(drawing, tmp_path)
    told = [text for text, _ in page.texts]
    assert any(text.endswith("# <i>") for text in told) and "Tanh <i>" in told
    assert 'the tape of <b>&"</script>loss' in told
    for name in names:
        assert any(f'<b>&"</script>{name}' in text for text in told), name
    plain = page_of(tinynet.draw(loss, names=names), tmp_path)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    ElementTree.fromstring(drawing.save(tmp_path / "a.svg").read_text())


def made_wild(value):
    """The same, each of its texts with a beginning that HTML would read as an element."""
    if isinstance(value, str):
        return f'<wild>&amp;"{value}'
    if isinstance(value, dict):
        return {made_wild(name): made_wild(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(made_wild, value))
    if isinstance(value, (Box, Output)):
        for name, each in vars(value).items():
            if name != "kind":
                setattr(value, name, made_wild(each))
    return value


@pytest.mark.parametrize("group", ["none", 1])
def test_no_text_of_a_drawing_becomes_html(group, tmp_path):
    """Titles, names, paths, code, formulas, options, devices, remarks: each is shown as it is."""
    net, scale = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), tinynet.tensor([2.0, 1.0])
    x = leaf([[1.0, 3.0]])
    with tinynet.tracing(net):
        y = tinynet.softmax(net(x * scale), 1)
        loss = (y[:, 0] * y[:, 1]).to("cpu:1").sum()
    drawing = tinynet.draw(loss, group=group)
    graph = drawing.graph
    boxes = made_wild(graph.boxes)
    edges = [replace(edge, argument=made_wild(edge.argument)) for edge in graph.edges]
    wild = Graph(boxes, edges, made_wild(["a remark"]), made_wild(graph.name))
    page = page_of(Drawing(wild, made_wild("a title")), tmp_path)
    picture = ElementTree.fromstring(svg(wild))
    assert {"wild", f"{SVG}wild"}.isdisjoint({tag for tag, _ in page.elements})
    assert not [each for each in picture.iter() if "wild" in each.tag]
    told = " ".join(text for text, _ in page.texts)
    shown = ["a title", "a remark", "copies from", "cpu:1", "J of", "needs no gradient", "options"]
    for each in shown if group == "none" else ["a title", "a remark", "holds"]:
        assert each in told
    assert told.count("<wild>") == told.count('<wild>&amp;"') > 40


def test_each_of_two_results_has_its_own_name_value_and_sum(tmp_path):
    """And the one that is drawn gives the page its name, whichever it is."""
    x = leaf(1.0)
    with tinynet.tracing():
        twice, thrice = Two.apply(x)
        loss = twice * thrice + (twice + thrice)
    page = page_of(tinynet.draw(loss), tmp_path)
    assert "the tape of loss" in page.at(0)
    assert grads(page.at(3)) == ["grad 1 + 3 = 4", "grad 1 + 2 = 3", "grad 1"]
    assert {"2", "3"} <= set(page.at(0, "value"))
    of_mul, of_two = (" ".join(page.at(step)) for step in (3, 4))
    assert "to twice : " in of_mul and "to thrice : " in of_mul
    assert "twice 2 arrives: 4 thrice 3 arrives: 3" in of_two
    for one, name in ((twice, "twice"), (thrice, "thrice")):
        told = page_of(tinynet.draw(one), tmp_path).at(0)
        assert f"the tape of {name}" in told
        assert any(t.startswith(f"The gradient of {name} with respect to itself") for t in told)
    told = page_of(tinynet.draw(x * 2.0), tmp_path).at(0)
    assert "a tape" in told
    assert any(t.startswith("The gradient of the result with respect to itself") for t in told)


def test_the_picture_of_the_readme_is_what_its_code_draws(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text()
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "draw(" in block
    ]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    drawn = (tmp_path / "tape.svg").read_text()
    assert drawn == (ROOT / "docs/pictures/tape.svg").read_text()


def test_light_and_dark_have_the_same_colours_and_text_can_be_read():
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    def contrast(a, b):
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    assert LIGHT.keys() == DARK.keys()
    rules = dict(re.findall(r"^(.*?) \{ --paper: (#\w+);", page_style(), re.M))
    dark = [selector for selector, paper in rules.items() if paper == DARK["paper"]]
    assert len(rules) == 4 and dark == [
        "@media (prefers-color-scheme: dark) { .tinynet-drawing",
        '[data-theme="dark"] .tinynet-drawing, [data-jp-theme-light="false"] .tinynet-drawing',
    ]
    for theme in (LIGHT, DARK):
        for words in ("ink", "faint", "value", "grad"):
            for ground in ("paper", "leaf", "shade"):
                assert contrast(theme[words], theme[ground]) >= 4.5, (words, ground)
        assert contrast(theme["grad"], theme["meet"]) >= 4


def test_every_class_has_a_style_and_every_style_a_use():
    x = leaf([1.0])
    for i in range(1, 6):
        x = x.to(f"cpu:{i}") * 2.0
    with tinynet.tracing():
        constant = tinynet.tensor([2.0], device="cpu:5")
        y = x * constant
    net, loss = net_of_blocks(2)
    drawings = [
        tinynet.draw(y),
        tinynet.draw(tape()),
        tinynet.draw(loss),
        tinynet.draw(loss, net, group=2),
    ]
    told = [of for d in drawings for of in re.findall(r'class="([^"]*)"', d._repr_html_())]
    classes = {name for of in told for name in of.split()}
    style = re.sub(r"/\*.*?\*/", "", page_style(), flags=re.S)
    styled = set(re.findall(r"\.([a-z][\w-]*)(?=[^{}]*\{)", style))
    assert classes - styled == {"first", "back", "on", "last", "operation"}
    assert styled - classes == {"now", "parameter"}  # of the script; of one that two operations use
    for rule in (
        r"\.tape \.hidden \{ visibility: hidden \}",
        r"aside \.hidden \{ display: none !imp",
    ):
        assert re.search(rule, style)


def test_a_file_of_its_own_shows_its_colours_where_they_are_used():
    """Converters know no var(), no @media and no paint-order: they see all of it light."""
    style = svg_style()
    light, dark = style.split("@media (prefers-color-scheme: dark) {")
    assert "var(" not in style and dark.endswith("}\n}\n")
    for theme, part in ((LIGHT, light), (DARK, dark)):
        assert set(re.findall(r"#\w{6}", part)) == set(theme.values()) - {theme["meet"]}
    assert "paint-order" not in re.sub(r"@supports .*? \{.*?\}\s*\}", "", light, flags=re.S)


def test_what_is_called_like_a_colour_has_it():
    rule = r"\.(\w+)(?: rect)? \{ (?:fill|color|stroke): var\(--(\w+)\)"
    found = [pair for pair in re.findall(rule, page_style()) if pair[0] in LIGHT]
    devices = [f"d{i}" for i in range(6)]
    assert sorted(name for name, _ in found) == sorted([*devices, *["faint", "grad", "value"] * 2])
    assert all(name == colour for name, colour in found)


def rectangles(text):
    root = ElementTree.fromstring(text)
    return [
        tuple(float(rect.get(k)) for k in ("x", "y", "width", "height"))
        for rect in root.iter(f"{SVG}rect")
    ]


def net_of_blocks(count):
    class Block(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return x + self.second(F.gelu(self.first(x)))

    net = nn.Sequential(*(Block() for _ in range(count)))
    with tinynet.tracing(net):
        loss = (net(tinynet.tensor(np.ones((2, 4), np.float32))) ** 2).sum()
    return net, loss


def test_no_box_lies_on_another_and_all_lie_inside(tmp_path):
    x = leaf(np.ones((2, 2), np.float32))
    uneven = nn.Linear(2, 2)(x) + x.abs()  # a tall box beside a low one
    for loss in (tape(), net_of_blocks(3)[1], uneven.sum()):
        text = tinynet.draw(loss).save(tmp_path / "a.svg").read_text()
        boxes = rectangles(text)
        width, height = map(float, ElementTree.fromstring(text).get("viewBox").split()[2:])
        assert len(boxes) == len(tinynet.draw(loss).graph.shown)
        for (x, y, w, h), (a, b, c, d) in combinations(boxes, 2):
            if y == b:
                assert x + w < a or a + c < x
            else:  # room for an arrow and what stands beside it
                assert y + h + 60 < b or b + d + 60 < y
        assert all(0 <= x and x + w + 16 <= width and y + h + 16 <= height for x, y, w, h in boxes)


def test_no_label_lies_on_another_and_all_lie_inside(tmp_path):
    wide = leaf(np.full((1, 1, 1, 3), 1.2345))  # what is beside its arrows is wider than the boxes
    chain = (wide.exp() * 0.5).sqrt() * wide.abs()
    for loss in (tape(), net_of_blocks(3)[1], chain):
        root = ElementTree.fromstring(tinynet.draw(loss).save(tmp_path / "a.svg").read_text())
        width = float(root.get("width")) - 2 * 16
        labels = [
            (float(text.get("y")), float(text.get("x")), len(text.text) * 7.3)
            for text in root.findall(f"{SVG}g/{SVG}text")
        ]
        for (y, x, w), (v, u, t) in combinations(labels, 2):
            assert y != v or x + w < u or u + t < x
        assert labels and all(0 <= x and x + w <= width + 1 for _, x, w in labels)


def test_a_single_arrow_ends_in_the_middle(tmp_path):
    text = tinynet.draw(leaf(1.0).exp().sqrt()).save(tmp_path / "a.svg").read_text()
    (end,) = set(re.findall(r'd="M[^"]* (\d+),\d+"', text))
    assert all(abs(x + w / 2 - float(end)) <= 1 for x, _, w, _ in rectangles(text))


def test_a_box_is_as_wide_as_what_stands_beside_its_arrows(tmp_path):
    """A single one ends in the middle, so that one half is beside it; of two, all is."""
    wide = leaf(np.full((1, 1, 1, 3), 1.2345))
    loss = (wide.exp() * wide.sqrt()).abs()
    text = tinynet.draw(loss).save(tmp_path / "a.svg").read_text()
    labels = [
        (float(label.get("y")), float(label.get("x")) + 7.3 * len(label.text))
        for label in ElementTree.fromstring(text).findall(f"{SVG}g/{SVG}text")
    ]
    _, *below = rectangles(text)
    for left, top, width, _ in below:
        ends = [end for y, end in labels if top - 25 <= y < top and end <= left + width + 1]
        assert max(ends, default=0) == pytest.approx(left + width, abs=2)
    assert len(below) == 4


def test_every_arrow_begins_at_a_box_or_where_another_one_bends(tmp_path):
    x = leaf(1.0)
    y = x
    for _ in range(3):
        y = y * 0.5 + x
    text = tinynet.draw(y).save(tmp_path / "a.svg").read_text()
    ways = [
        [point for point in re.findall(r"(\d+),(\d+)(?= C|$)", way)]
        for way in re.findall(r'class="arrow[^"]*" d="M([^"]*)"', text)
    ]
    assert len(ways) == 9 + 1  # an arrow for each argument, and the way that those of x share
    bends = {point for way in ways for point in way[1:-1]} | {ways[0][-1]}
    bottoms = {(round(x + w / 2), y + h) for x, y, w, h in rectangles(text)}
    for (x, y), *_ in ways:
        near = any(abs(int(x) - a) <= 1 and int(y) == b for a, b in bottoms)
        assert near or (x, y) in bends


def test_layout_uncrosses_and_lets_leaves_down():
    layout = lay_out([30.0] * 7, [(0, 2), (1, 3), (2, 5), (3, 6), (4, 5)])
    x = layout.centres
    assert layout.ranks[4] == layout.ranks[5] - 1  # a leaf stands just above its first user
    assert (x[0] < x[1]) == (x[2] < x[3]) == (x[5] < x[6])
    assert all(place - 15 >= -1e-9 and place + 15 <= layout.width + 1e-9 for place in x)


def test_arrows_from_one_box_share_their_bends():
    count = 60  # a leaf that each of 60 operations in a chain uses
    edges = [(i, i + 1) for i in range(1, count)] + [(0, i) for i in range(1, count + 1)]
    layout = lay_out([40.0] * (count + 1), edges)
    assert len({bend for bends in layout.bends for bend in bends}) == count - 1
    assert layout.width < 200  # and no room is kept for others


def test_a_page_stays_small(tmp_path):
    """A leaf that every operation uses: its arrows, and the sums at it, are told once each."""
    x = leaf(1.0)
    y = x
    for _ in range(150):
        y = y * 0.5 + x
    page = tinynet.draw(y, group="none").save(tmp_path / "a.html")
    assert page.stat().st_size < 300 * 1300
