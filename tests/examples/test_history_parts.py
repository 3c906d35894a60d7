"""examples/history: what is said, drawn and shown, without a training."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import nn
from tinynet.data import Vocabulary
from tinynet.data.text import BEGIN, END, PAD
from tinynet.recording import is_grad_enabled

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "history"))
import autoencoder  # noqa: E402
import backprop  # noqa: E402
import bert  # noqa: E402
import gan  # noqa: E402
import googlenet  # noqa: E402
import gpt  # noqa: E402
import lenet5  # noqa: E402
import perceptron  # noqa: E402
import resnet  # noqa: E402
import transformer  # noqa: E402
import vae  # noqa: E402
import vgg  # noqa: E402

CPU = tinynet.device("cpu")


class Speaker:
    """A net of `length` places that keeps what it saw; logits: tokens (N, T) -> (N, T, K)."""

    def __init__(self, length, logits):
        self.places, self.logits, self.seen = SimpleNamespace(weight=[0] * length), logits, []

    def __call__(self, tokens):
        assert not is_grad_enabled()
        self.seen.append(tokens.tolist())
        return tinynet.tensor(np.asarray(self.logits(tokens), np.float32))


def test_a_gap_is_filled_by_a_character_and_the_rest_stays():
    """The likeliest one: never the hidden one itself."""

    def logits(tokens):
        found = np.zeros((*tokens.shape, 4))
        found[..., 3] = 9  # the hidden one
        found[0, np.arange(tokens.shape[1]), np.arange(tokens.shape[1]) % 3] = 5
        return found

    net, vocabulary = Speaker(6, logits), Vocabulary("abc")
    assert bert.speak(net, vocabulary, "c_b__c") == "cbbabc"
    assert net.seen == [[[2, 3, 1, 3, 3, 2]]]
    for wrong in ("abcab", "_abcabc", ""):
        with pytest.raises(ValueError, match="at most 6 characters"):
            bert.speak(net, vocabulary, wrong)


def test_a_text_goes_on_from_its_end():
    """By the last `length` tokens, drawn from softmax, with the same luck each time."""

    def next_one(tokens):  # after a comes b, after b c, after c a; the places before say nonsense
        found = np.zeros((*tokens.shape, 3))
        found[:, -1, (tokens[0, -1] + 1) % 3] = 50
        return found

    net, vocabulary = Speaker(4, next_one), Vocabulary("abc")
    assert gpt.speak(net, vocabulary, "ca", 7) == "ca" + "bcabcab"
    text = "cabcabcab"
    wanted = [[[vocabulary.symbols.index(c) for c in text[max(0, n - 4) : n]]] for n in range(2, 9)]
    assert net.seen == wanted
    drawn = [
        gpt.speak(Speaker(4, lambda t: np.zeros((*t.shape, 3))), vocabulary, "a", 40) for _ in "12"
    ]
    assert drawn[0] == drawn[1] and {*drawn[0][1:]} == {*"abc"}
    likely = np.log([0.8, 0.1, 0.1])
    said = gpt.speak(
        Speaker(4, lambda t: np.broadcast_to(likely, (*t.shape, 3))), vocabulary, "b", 300
    )
    assert 0.7 < said.count("a") / 300 < 0.9
    with pytest.raises(ValueError, match="at least one character"):
        gpt.speak(net, vocabulary, "")


class Translator:
    """Says the words of `rows`, each time the next one."""

    def __init__(self, rows):
        self.rows, self.asked, self.encoded = rows, [], 0

    def encode(self, source):
        assert not is_grad_enabled()
        self.encoded += 1
        return "encoded"

    def decode(self, encoded, source, said):
        assert encoded == "encoded" and not is_grad_enabled()
        self.asked.append(said.tolist())
        logits = np.zeros((*said.shape, 9), np.float32)
        for n, row in enumerate(self.rows):
            logits[n, -1, row[min(said.shape[1] - 1, len(row) - 1)]] = 1
        return tinynet.tensor(logits)


def test_a_translation_ends_at_its_end():
    net = Translator([[5, 6, END, 7, 7], [8, END, 5, 5, 5], [END, 4, 4, 4, 4]])
    source = np.array([[4, 5, PAD], [4, PAD, PAD], [4, 4, 4]])
    assert transformer.translate(net, source) == [[5, 6], [8], []]
    assert net.encoded == 1 and net.asked[0] == [[BEGIN]] * 3
    assert net.asked[2] == [[BEGIN, 5, 6], [BEGIN, 8, END], [BEGIN, END, 4]] and len(net.asked) == 3
    endless = Translator([[5]])
    (said,) = transformer.translate(endless, source[:1])
    assert said == [5] * (2 * 3 + 10 - 1)  # far too long


def test_words_of_numbers_there_and_back():
    """No two numbers have one word, and none has an unknown part."""
    for names, spell in (
        (transformer.GERMAN, lambda n: transformer.german(str(n))),
        (transformer.ENGLISH, lambda n: transformer.spell(n, transformer.ENGLISH)),
    ):
        numbers = [*range(0, 1100), *range(1100, 1_000_000, 17_771), 999_999]
        said = [tuple(spell(n)) for n in numbers]
        assert len({*said}) == len(said)
        assert {word for each in said for word in each} <= {*names, "und", "eins"}
    assert transformer.german("zwei und") == ["zwei", "und"]
    with pytest.raises(ValueError, match="expected a number below 1,000,000, got 1000000"):
        transformer.german("1000000")


@pytest.mark.parametrize(
    "make, taught, asked", [(backprop.families, 100, 4), (perceptron.pictures, 2000, 400)]
)
def test_nothing_is_asked_that_was_taught(make, taught, asked):
    (train, _), (tests, _) = make()
    known, new = ({row.tobytes() for row in rows} for rows in (train, tests))
    assert (len(train), len(tests)) == (taught, asked) and not known & new


def test_a_perceptron_that_says_zero_is_wrong():
    net = perceptron.Perceptron(2, CPU)
    for parameter in net.parameters():
        parameter.data[...] = 0
    x, target = perceptron.xor()[0]
    found = perceptron.rule(net, tinynet.tensor(x), tinynet.tensor(target))
    assert found["wrong"].item() == 100 and found["loss"].item() == 0
    found["loss"].backward()  # a mistake moves it: -t x
    np.testing.assert_allclose(net.weight.grad.numpy(), -(target @ x) / 4)
    net.weight.data[...], net.bias.data[...] = [1, 1], -0.5
    said = [perceptron.say(net, text) for text in ("0 0", "0 1", "1 1")]
    assert said == ["-0.50", "+0.50", "+1.50"]
    for wrong in ("0", "0 1 2", "a b", ""):
        with pytest.raises(ValueError, match="expected two numbers"):
            perceptron.say(net, wrong)


def test_pictures_a_perceptron_is_least_sure_of(monkeypatch, rng):
    drawn = []
    monkeypatch.setattr(perceptron, "picture_rows", lambda *each: drawn.append(each) or b"png")
    net = perceptron.Perceptron(784, CPU)
    x = rng.random((6, 784), np.float32)
    target = np.array([1, -1, 1, -1, 1, -1], np.float32)
    net.weight.data[...], net.bias.data[...] = rng.normal(size=784), 0.5
    perceptron.show_weights(net, tinynet.tensor(x), tinynet.tensor(target))
    (((weights, *near),), zoom) = drawn[0]
    sure = target * (x @ net.weight.numpy() + 0.5)
    for picture, sign in zip(near, (-1, 1), strict=True):
        k = min(np.flatnonzero(target == sign), key=lambda n: sure[n])
        np.testing.assert_array_equal(picture.ravel(), x[k])
    shape = net.weight.numpy().reshape(28, 28)
    np.testing.assert_allclose(weights[0], shape / (2 * np.abs(shape).max()) + 0.5, rtol=1e-4)
    assert zoom == 5


def test_what_hidden_units_answer(monkeypatch):
    net = backprop.Families(CPU)
    net.kept = nn.Parameter(np.zeros(1))  # its parts are told what to say
    net.rest = lambda seen: tinynet.tensor(np.linspace(0, 1, 24, dtype=np.float32)[None])
    assert backprop.say(net, "Colin aunt") == "Sophia 1.00, Angela 0.96, Lucia 0.91"
    seen = []
    net.person = lambda x: seen.append(x.numpy()) or x
    net.relation = lambda x: seen.append(x.numpy()) or x
    backprop.say(net, "Colin aunt")
    assert seen[0].argmax() == 5 and seen[1].argmax() == 7 and [s.sum() for s in seen] == [1, 1]
    xor = backprop.Layers((2, 2, 1), CPU)
    wanted = xor(tinynet.tensor(np.array([[0, 1]], np.float32))).item()
    assert backprop.say(xor, "0 1") == f"{wanted:.2f}"
    for two, wrong in ((net, "Colin"), (net, "Colin cousin"), (xor, "0 2"), (xor, "Colin aunt")):
        with pytest.raises(ValueError, match="expected two of"):
            backprop.say(two, wrong)


def test_what_is_shown_of_hidden_units_and_of_planes(monkeypatch):
    drawn = []
    for module, name in (
        (backprop, "squares_picture"), (backprop, "plane_picture"), (perceptron, "plane_picture")
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *each: drawn.append(each) or b"png")
    net, (x, target) = backprop.Families(CPU), backprop.families()[1]
    shown = backprop.show_hidden(net, tinynet.tensor(x), tinynet.tensor(target))
    panels, columns = drawn.pop()
    weight = net.person.layers[0].weight.numpy()
    assert [title for title, _ in panels] == [f"unit {n}" for n in range(6)]
    for (_, rows), unit in zip(panels, weight, strict=True):  # the English above
        np.testing.assert_array_equal(rows, [unit[:12], unit[12:]])
    assert columns == [backprop.PEOPLE[:12], backprop.PEOPLE[12:]]
    asked = [
        f"{backprop.PEOPLE[row[:24].argmax()]} {backprop.RELATIONS[row[24:].argmax()]}" for row in x
    ]
    said = "\n".join(f"{each}: {backprop.say(net, each)}" for each in asked)
    assert shown["texts"] == {"questions it was never taught": said}
    assert shown["pictures"] == {"hidden units": b"png"}
    xor = backprop.Layers((2, 2, 1), CPU), *backprop.xor()[1]
    line = perceptron.Perceptron(2, CPU), *perceptron.xor()[1]
    line[0].weight.data[...], line[0].bias.data[...] = [1, -2], 0.5
    for show, (net, x, target), zero in (
        (backprop.show_plane, xor, 0.5), (perceptron.show_line, line, 0)
    ):  # fmt: skip
        shown = show(net, tinynet.tensor(x), tinynet.tensor(target))
        value, points, targets = drawn.pop()
        np.testing.assert_array_equal(points, x)
        assert targets.tolist() == target.ravel().tolist()
        wanted = net(tinynet.tensor(x + 0.25)).numpy().ravel() - np.float32(zero)
        np.testing.assert_array_equal(value(x + np.float32(0.25)), wanted)
    said = "0 xor 0: +0.50\n0 xor 1: -1.50\n1 xor 0: +1.50\n1 xor 1: -0.50\n"
    assert shown["texts"] == {"w x + b": said} and "no straight line" in shown["words"][0]


def test_what_counts_as_wrong_and_what_is_left_alone():
    """Off by less than 0.2: nothing; by 0.5 or more: wrong, once however many units are."""

    def net(x):
        return x

    target = tinynet.tensor(np.zeros((5, 3), np.float32))
    off = [[0.1, -0.2, 0], [0.4, 0.0, 0], [0.5, -0.7, 0], [0, 0, 0], [0, 0, -0.5]]
    y = tinynet.tensor(np.array(off, np.float32))
    found = backprop.error(net, y, target)
    assert found["loss"].item() == pytest.approx((0.2**2 + 2 * 0.3**2 + 0.5**2) / 2)
    assert found["wrong"].item() == 40
    found = backprop.error(net, 1 - y, 1 - target)  # the same on the other side
    assert found["loss"].item() == pytest.approx(0.235) and found["wrong"].item() == 40


# --- Nets that make pictures ----------------------------------------------------------------------


def on_another_device():
    """What shows or says something: on a device that is not the default one."""
    on = tinynet.device("cpu:1")
    x = tinynet.tensor(np.full((4, 1, 8, 8), 0.5, np.float32), device=on)
    labels = np.arange(4) % 2, ["a", "b"]
    families, xor = backprop.Families(on), backprop.Layers((2, 2, 1), on)
    line, painter = perceptron.Perceptron(2, on), vae.VAE((1, 8, 8), 9, 3, on)
    speaker = transformer.Transformer([9, 8], on, 32)
    duelling, hiding = gan.GAN(1, 8, 4, on), autoencoder.Autoencoder((1, 8, 8), 2, 0.5, on)
    table, told, cases = (
        [tinynet.tensor(each, device=on) for each in rows]
        for rows in (backprop.xor()[0], backprop.families()[1], perceptron.xor()[0])
    )
    return {
        "families": lambda: (backprop.say(families, "Colin aunt"),
                             backprop.show_hidden(families, *told)),
        "xor": lambda: (backprop.say(xor, "0 1"), backprop.show_plane(xor, *table)),
        "line": lambda: (perceptron.say(line, "0 1"), perceptron.show_line(line, *cases)),
        "vae": lambda: (vae.say(painter, x[:1]), vae.show(painter, x, *labels)),
        "gan": lambda: (gan.say(duelling.eval(), x[:1]), gan.show(duelling, x, *labels),
                        gan.glimpse(duelling), gan.duel(duelling.train(), x)),
        "autoencoder": lambda: (autoencoder.say(hiding, x[:1]),
                                autoencoder.show(hiding, x, *labels)),
        "transformer": lambda: transformer.translate(speaker, np.full((1, 3), 4)),
    }  # fmt: skip


def test_what_is_shown_and_said_is_computed_where_the_net_is(monkeypatch):
    """A tensor elsewhere would be refused."""
    for module in (backprop, perceptron):
        monkeypatch.setattr(module, "plane_picture", lambda value, points, _: value(points))
    for module, name in (
        (backprop, "squares_picture"), (autoencoder, "points_picture"),
        *((module, "picture_rows") for module in (vae, gan, autoencoder)),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *each: b"png")
    for name, each in on_another_device().items():
        assert each(), name


@pytest.fixture
def drawn(monkeypatch):
    found = []
    for module in (vae, gan, autoencoder):
        monkeypatch.setattr(module, "picture_rows", lambda rows: found.append(rows) or b"png")
    monkeypatch.setattr(autoencoder, "points_picture", lambda *each: found.append(each) or b"png")
    return found


def test_what_a_vae_shows_and_says(drawn, rng):
    net = vae.VAE((1, 4, 4), 9, 3, CPU)
    x = tinynet.tensor(rng.random((21, 1, 4, 4), np.float32))

    def painted(z):
        return tinynet.functional.sigmoid(net.decode(tinynet.tensor(z))).numpy()

    tinynet.manual_seed(2)
    shown = vae.show(net, x, np.zeros(21), ["a"])["pictures"]
    samples, both, walks = drawn
    tinynet.manual_seed(2)
    luck = tinynet.randn(64, 3).numpy()
    np.testing.assert_allclose(np.concatenate(samples), painted(luck), rtol=1e-5)
    assert [title.split()[0].strip(",") for title in shown] == ["samples", "pictures", "walk"]
    assert len(samples) == 4 and sum(map(len, samples)) == 64
    means = net.encode(x[:16])[0].numpy()
    np.testing.assert_array_equal(both[0], x.numpy()[:16])
    np.testing.assert_allclose(both[1], painted(means), rtol=1e-5)  # without luck
    assert len(walks) == 4 and all(len(walk) == 12 for walk in walks)
    for number, walk in enumerate(walks):
        ends = means[2 * number : 2 * number + 2]
        np.testing.assert_allclose(walk[[0, -1]], painted(ends), rtol=1e-4)
        np.testing.assert_allclose(
            walk[3], painted((8 * ends[:1] + 3 * ends[1:]) / 11)[0], rtol=1e-4
        )
    for count in (1, 3, 6):  # a small test set
        drawn.clear()
        vae.show(net, x[:count], np.zeros(count), ["a"])
        assert len(drawn[2]) == count // 2
    tinynet.manual_seed(1)
    said = vae.say(net, x[:1])
    tinynet.manual_seed(1)
    assert said == f"log p at least {-vae.bound(net, x[:1])['loss'].item():.1f} nats"
    z = net.draw(tinynet.zeros(20_000, 1) + 2, tinynet.zeros(20_000, 1) + np.log(9.0)).numpy()
    assert z.mean() == pytest.approx(2, abs=0.1) and z.std() == pytest.approx(3, rel=0.03)


def test_what_a_gan_shows_and_says(drawn, rng):
    net = gan.GAN(1, 8, 4, CPU).eval()
    tinynet.manual_seed(3)
    made = net.forge(120).numpy()
    assert made.shape == (120, 1, 8, 8) and np.abs(made).max() <= 1
    tinynet.manual_seed(3)
    gan.show(net, tinynet.zeros(1, 1, 8, 8), np.zeros(1), ["a"])
    assert len(drawn[0]) == 6
    np.testing.assert_allclose(np.concatenate(drawn[0]), made / 2 + 0.5, rtol=1e-5)
    tinynet.manual_seed(4)
    few = net.forge(12).numpy()
    tinynet.manual_seed(4)
    assert gan.glimpse(net) == b"png"
    np.testing.assert_allclose(drawn[1][0], few / 2 + 0.5, rtol=1e-5)
    x = tinynet.tensor(rng.normal(size=(1, 1, 8, 8)).astype(np.float32))
    share = 100 / (1 + np.exp(-net.judge(x).item()))
    assert gan.say(net, x) == f"real, says the judge, with {share:.1f} %"
    recipe = gan.PROGRAM.recipes["gan"].data
    z = tinynet.tensor(rng.normal(size=(3, gan.LUCK)).astype(np.float32))
    np.testing.assert_allclose(recipe.make(net, z).numpy(), net.forger(z).numpy() / 2 + 0.5)


@pytest.mark.parametrize("size, noise", [(2, 0.0), (3, 0.5)])
def test_what_an_autoencoder_shows_and_says(size, noise, drawn, rng):
    net = autoencoder.Autoencoder((1, 4, 4), size, noise, CPU)
    x = tinynet.tensor(rng.uniform(0.1, 1, (30, 1, 4, 4)).astype(np.float32))
    labels = np.arange(30) % 3
    tinynet.manual_seed(5)
    seen = net.spoil(x) if noise else x
    tinynet.manual_seed(5)
    shown = autoencoder.show(net, x, labels, ["a", "b", "c"])
    rows = [0, 3, 1, 4, 2, 5]  # two of each class
    y = net(seen).numpy()
    line = autoencoder.linear(x.numpy(), seen.numpy(), noise, size)
    for found, wanted in zip(drawn[0], (seen.numpy(), y, line), strict=True):
        np.testing.assert_allclose(found, wanted[rows], rtol=1e-4, atol=1e-5)
    errors = [((each - x.numpy()) ** 2).sum() / 30 for each in (y, line)]
    (told,) = shown["texts"].values()
    assert told == (
        f"autoencoder {errors[0]:.2f}, best linear map of the same size {errors[1]:.2f}"
    )
    assert len(drawn) == (2 if size == 2 else 1) == len(shown["pictures"])
    if size == 2:
        np.testing.assert_allclose(drawn[1][0], net.encode(x).numpy(), rtol=1e-5)
        assert drawn[1][1] is labels
    code = ", ".join(f"{number:.2f}" for number in net.encode(x[:1]).numpy()[0])
    error = ((net(x[:1]).numpy() - x.numpy()[:1]) ** 2).sum()
    assert autoencoder.say(net, x[:1]) == f"code {code}; squared error {error:.2f}"


def test_groups_of_a_resnet_by_stage():
    net = resnet.ResNet(3, 1, 2, True, CPU)
    groups = resnet.sgd(net, 0.1, 0.25).param_groups
    assert [(g["name"], len(g["params"]), g["weight_decay"]) for g in groups] == [
        ("conv.weight", 1, 0.25), ("stages.0.weight", 4, 0.25), ("stages.1.weight", 4, 0.25),
        ("stages.2.weight", 4, 0.25), ("fc.weight", 1, 0.25), ("norms.bias", 2 * 13 + 1, 0.0),
    ]  # fmt: skip
    assert all(isinstance(p, nn.Parameter) for g in groups for p in g["params"])


class Sigma:
    """In the place of luck: each draw is its standard deviation."""

    def normal(self, mean, sigma, shape):
        assert mean == 0
        return np.full(shape, sigma)

    def uniform(self, low, high, shape):
        assert low == -high
        return np.full(shape, high / 3**0.5)

    def choice(self, among, shape):
        return np.full(shape, among[-1])


def fan_in(shape):
    return math.prod(shape[1:])


def he(shape):
    return (2 / fan_in(shape)) ** 0.5


def he_fan_out(shape):
    return (2 / (shape[0] * math.prod(shape[2:]))) ** 0.5


def xavier(shape):
    return (2 / (shape[0] + shape[1])) ** 0.5


def lecun(shape):
    return 2.4 / fan_in(shape) / 3**0.5


FIRST = {  # (part of a name, standard deviation of its first weights); the others are he's
    "autoencoder": (lambda: autoencoder.Autoencoder((1, 4, 4), 2, 0.0, CPU), {}),
    "families": (lambda: backprop.Families(CPU), {"weight": 0.3}),
    "bert": (lambda: bert.BERT(9, 7, 32, 4, 1, CPU), {"weight": 0.06}),
    "gan": (lambda: gan.GAN(1, 8, 4, CPU), {"weight": 0.02}),
    "googlenet": (
        lambda: googlenet.GoogLeNet(3, 1, 20, "googlenet-mini", CPU), {"fc2": 0.01, "fc.": 0.01},
    ),
    "gpt": (lambda: gpt.GPT(9, 7, 32, 4, 1, CPU), {"weight": 0.06}),
    "lenet5": (lambda: lenet5.LeNet5(3, 1, 28, CPU), {"s2": 0.25, "s4": 0.25, "weight": lecun}),
    "perceptron": (lambda: perceptron.Perceptron(5, CPU), {"weight": 5.0, "bias": 5.0}),
    "resnet": (lambda: resnet.ResNet(3, 1, 2, True, CPU), {"conv": he_fan_out}),
    "transformer": (
        lambda: transformer.Transformer([9, 8], CPU, 32), {"words": 32**-0.5, "weight": xavier},
    ),
    "vae": (
        lambda: vae.VAE((1, 4, 4), 9, 3, CPU),
        {"mean": xavier, "log_variance": xavier, "paint": xavier},
    ),
    "vgg": (lambda: vgg.VGG(3, 1, 16, "vgg-mini", CPU), {"fc3": 0.01}),
}  # fmt: skip


@pytest.mark.parametrize("name", FIRST)
def test_first_weights_of_every_layer(name, monkeypatch):
    """Small where classes begin, as the papers have them; by fan-out in ResNet; far in a
    perceptron. Biases begin with 0 and norms with 1.
    """
    monkeypatch.setattr(tinynet.random, "generator", Sigma)
    make, rules = FIRST[name]
    for path, parameter in make().named_parameters():
        found, shape = parameter.numpy(), parameter.shape
        rule = next((rules[part] for part in rules if part in path), he)
        if name != "perceptron" and path.endswith("bias"):
            rule = 0
        elif "norm" in path or (name == "googlenet" and parameter.ndim == 1):
            rule = 1
        if path == "c3.weight":  # the others do not see
            found = found[np.broadcast_to(np.any(found, axis=(2, 3), keepdims=True), shape)]
        sigma = rule(shape) if callable(rule) else rule
        np.testing.assert_allclose(found, sigma, rtol=1e-6, err_msg=path)


def test_a_net_says_in_use_what_it_says_in_training(monkeypatch, rng):
    """But for dropout and batch normalisation; early classifiers are asked in training alone. With
    the same luck, a test finds what training would: codes are drawn and pixels hidden there too.
    """
    for layer in (nn.Dropout, nn.BatchNorm2d):
        monkeypatch.setattr(layer, "forward", lambda self, x: x)
    words, x = rng.integers(4, 9, (2, 6)), tinynet.tensor(rng.random((2, 1, 20, 20), np.float32))
    inception = googlenet.GoogLeNet(3, 1, 20, "googlenet-mini", CPU)
    points, answers = (tinynet.tensor(each) for each in perceptron.xor()[0])
    people, kin = (tinynet.tensor(each) for each in backprop.families()[1])
    codes = [autoencoder.Autoencoder((1, 20, 20), 2, noise, CPU) for noise in (0.0, 0.5)]
    for net, ask, inputs in (
        (gpt.GPT(9, 6, 32, 4, 1, CPU), None, (words,)),
        (bert.BERT(9, 6, 32, 4, 1, CPU), None, (words,)),
        (transformer.Transformer([9, 9], CPU, 32), None, (words, words[:, ::-1])),
        (lenet5.LeNet5(3, 1, 20, CPU), None, (x,)),
        (vgg.VGG(3, 1, 20, "vgg-mini", CPU), None, (x,)),
        (resnet.ResNet(3, 1, 1, True, CPU), None, (x,)), (inception, None, (x,)),
        (codes[0], None, (x,)), (codes[1], None, (x,)),
        *((net, autoencoder.loss, (x,)) for net in codes),
        (vae.VAE((1, 20, 20), 20, 4, CPU), None, (x,)),
        (vae.VAE((1, 20, 20), 20, 4, CPU), vae.bound, (x,)),
        (gan.GAN(1, 20, 4, CPU), gan.duel, (x,)),
        (perceptron.Perceptron(2, CPU), perceptron.rule, (points, answers)),
        (backprop.Families(CPU), backprop.error, (people, kin)),
    ):  # fmt: skip
        found = []
        for mode in (net.train, net.eval):
            tinynet.manual_seed(1)
            with monkeypatch.context() as patch:
                if mode == net.eval:
                    patch.setattr(googlenet.Auxiliary, "forward", None)
                said = ask(mode(), *inputs) if ask else mode()(*inputs)
            said = list(said.values()) if isinstance(said, dict) else said
            found.append(list(said) if isinstance(said, (tuple, list)) else [said])
        pairs = zip(*found, strict=net is not inception)
        for number, (first, again) in enumerate(pairs):
            where = f"{type(net).__name__}, {number}"
            np.testing.assert_array_equal(again.numpy(), first.numpy(), err_msg=where)


def test_a_net_drops_out_where_its_paper_says(monkeypatch, rng):
    """In the order of the layers: which share, of how many units of a picture. VGG, section 3.1;
    GoogLeNet, section 5, where two early classifiers have their own.
    """
    dropped, x = [], tinynet.tensor(rng.random((2, 1, 32, 32), np.float32))
    real = nn.Dropout.forward
    monkeypatch.setattr(
        nn.Dropout, "forward", lambda m, x: dropped.append((m.p, x.shape[1])) or real(m, x)
    )
    plain = vgg.VGG(3, 1, 32, "vgg-mini", CPU)
    inception = googlenet.GoogLeNet(3, 1, 32, "googlenet-mini", CPU)
    early = [(0.7, s.fc1.weight.shape[0]) for s in inception.steps if hasattr(s, "fc1")]
    for net, expected in (
        (plain, [(0.5, plain.fc2.weight.shape[0])] * 2),
        (inception, [*early, (0.4, inception.fc.weight.shape[1])]),
    ):
        dropped.clear()
        net.train()(x)
        assert dropped == expected


def test_what_is_learnt_and_what_is_kept():
    """Codes of LeNet-5, and where its third layer sees nothing, belong to the net and stay."""
    net = lenet5.LeNet5(3, 1, 12, CPU)
    learnt = {name for name, _ in net.named_parameters()}
    assert {name for name, _ in net.named_buffers()} == {"codes", "c3.seen"}
    assert not learnt & {"codes", "c3.seen"} and {*np.unique(net.codes.numpy())} == {-1, 1}


def test_a_perceptron_sees_a_file_as_it_was_trained(tmp_path):
    path, pixels = tmp_path / "bag.png", np.full((28, 28), 51, np.uint8)
    Image.fromarray(pixels).save(path)
    net = perceptron.Perceptron(784, CPU)
    net.weight.data[...], net.bias.data[...] = 1 / 784, 0
    assert perceptron.say(net, str(path)) == "+0.20, Bag"
    net.bias.data[...] = -1
    assert perceptron.say(net, str(path)) == "-0.80, Trouser"
