"""What every recipe and every variant is, in one table each: as docs/training.md, docs/history.md
and the papers have them. A change of a value is a change of a line here.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import MISSING, FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest

import tinynet
from tinynet import nn

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "history")]
import alexnet  # noqa: E402
from variants import VARIANTS, varied  # noqa: E402

RECIPES = """
alexnet mini: 8 x 64, SGD 0.02 momentum 0.9, decay 0.0005 0, MultiStep 5 7; largest 64, scale 1/64
alexnet photos: 8 x 64, SGD 0.02 momentum 0.9, decay 0.002 0, MultiStep 5 7; picture_size 64, crop 56, scale 1/64
alexnet paper: 90 x 128, SGD 0.01 momentum 0.9, decay 0.0005, plateau 10 3 1e-05; picture_size 256, crop 224, colour 0.1, border 3
alexnet cfg145: 91 x 128, SGD 0.01 momentum 0.9, decay 0.0005 0, MultiStep 25 51 79, 67 conv1.lr=1e-5, 67 colour=0, 72 freeze=conv1; picture_size 256, crop 224, colour 0.1, noise_scale 1/1.1, centre_mean, crop_chunk 32, border 3
autoencoder codes: 15 x 64, Adam 0.001 betas 0.9 0.999 eps 1e-08, decay 0, Cosine 15; scale 1/255
autoencoder denoising: 15 x 64, Adam 0.001 betas 0.9 0.999 eps 1e-08, decay 0, Cosine 15; scale 1/255
backprop families: 20 x 1, SGD 0.06 momentum 0.9, decay 0, WarmUp 1 Constant; sweeps 250, wrong
backprop xor: 8 x 1, SGD 0.25 momentum 0.9, decay 0, WarmUp 1 Constant; sweeps 250, wrong
bert bert: 5 x 32, AdamW 0.003 betas 0.9 0.999 eps 1e-08, decay 0.01 0, WarmUp 0.25 Cosine 5; length 64, pieces Masked
bert bert-mini: 5 x 32, AdamW 0.003 betas 0.9 0.999 eps 1e-08, decay 0.01 0, WarmUp 0.25 Cosine 5; length 64, pieces Masked
gan gan: 20 x 64, Adam 0.0005 betas 0.5 0.999 eps 1e-08, decay 0, Constant; grey 127.5, scale 1/127.5, best_by distance, codes 64, undivided, judge forger distance
googlenet googlenet-mini: 10 x 32, SGD 0.05 momentum 0.9, decay 0.0002, WarmUp 0.5 Cosine 10; largest 32, padding 2, scale 1/64, auxiliary 0.3
googlenet googlenet: 60 x 128, SGD 0.01 momentum 0.9, decay 0.0002, WarmUp 3 Cosine 60; picture_size 256, crop 224, scale 1/64, auxiliary 0.3
gpt gpt: 5 x 32, AdamW 0.003 betas 0.9 0.999 eps 1e-08, decay 0.01 0, WarmUp 0.25 Cosine 5; length 64, pieces Windows
gpt gpt-mini: 5 x 32, AdamW 0.003 betas 0.9 0.999 eps 1e-08, decay 0.01 0, WarmUp 0.25 Cosine 5; length 64, pieces Windows
lenet5 lenet5: 24 x 32, SGD 0.006 momentum 0.9, decay 0, Cosine 24; largest 32, scale 1/64
perceptron pictures: 20 x 1, SGD 1 momentum 0, decay 0, Constant; best_by wrong, wrong
perceptron xor: 25 x 1, SGD 1 momentum 0, decay 0, Constant; best_by wrong, wrong
resnet resnet20: 12 x 32, SGD 0.05 momentum 0.9, decay 0.0001 0, Cosine 12; largest 32, padding 2, scale 1/64
resnet plain20: 12 x 32, SGD 0.05 momentum 0.9, decay 0.0001 0, Cosine 12; largest 32, padding 2, scale 1/64
resnet resnet32: 12 x 32, SGD 0.05 momentum 0.9, decay 0.0001 0, Cosine 12; largest 32, padding 2, scale 1/64
resnet plain56: 12 x 32, SGD 0.05 momentum 0.9, decay 0.0001 0, Cosine 12; largest 32, padding 2, scale 1/64
resnet resnet56: 12 x 32, SGD 0.05 momentum 0.9, decay 0.0001 0, Cosine 12; largest 32, padding 2, scale 1/64
resnet cifar: 20 x 64, SGD 0.1 momentum 0.9, decay 0.0005 0, Cosine 20; largest 32, padding 4, scale 1/64
transformer transformer: 3 x 64, Adam 0.002 betas 0.9 0.98 eps 1e-09, decay 0, WarmUp 0.3 Cosine 3;
vae vae: 20 x 64, Adam 0.001 betas 0.9 0.999 eps 1e-08, decay 0, Cosine 20; scale 1/255, codes 20, painted far
vgg vgg-mini: 20 x 32, SGD 0.02 momentum 0.9, decay 0.0005, WarmUp 1 Cosine 20; largest 32, padding 2, scale 1/64
vgg vgg11: 74 x 256, SGD 0.01 momentum 0.9, decay 0.0005, MultiStep 25 50 65; picture_size 256, crop 224, scale 1/64
vgg vgg16: 74 x 256, SGD 0.01 momentum 0.9, decay 0.0005, MultiStep 25 50 65; picture_size 256, crop 224, scale 1/64
""".strip().splitlines()  # noqa: E501  (a line is a recipe)


def program_of(name):
    found = importlib.import_module(name)
    return getattr(found, "PROGRAM", None) or found.main.__self__


def schedule_in_words(schedule):
    found, kind = schedule.options(), type(schedule).__name__
    if kind == "MultiStep":
        assert found["gamma"] == 0.1
        return f"MultiStep {' '.join(map(str, found['milestones']))}"
    if kind == "DivideOnPlateau":
        assert found["metric"] == "top1_error"
        return f"plateau {found['factor']:g} {found['patience']} {found['min_lr']:g}"
    if kind == "Cosine":
        assert found["min_lr"] == 0
        return f"Cosine {found['epochs']:g}"
    if kind == "WarmUp":
        assert found["start"] == 0.1
        return f"WarmUp {found['epochs']:g} {schedule_in_words(schedule.after)}"
    return kind


SHORT = {1 / 64: "1/64", 1 / 255: "1/255", 1 / 127.5: "1/127.5", 1 / 1.1: "1/1.1"}


def data_in_words(data):
    """Its fields that are not as they would be by themselves, functions and texts aside."""
    words = []
    for each in fields(data):
        name, value = each.name, getattr(data, each.name)
        default = None if each.default is MISSING else each.default
        if each.default_factory is not MISSING:
            default = each.default_factory()
        if name == "pieces":
            value = value.__name__
        elif name == "scale":
            default = 1  # any other one is told
        elif name in ("asks", "prompts", "examples") or callable(value):
            continue
        if value == default:
            continue
        if name == "measures":
            words.append(" ".join(value))
        elif value is True or name == "undivided":
            words.append(name)
        else:
            words.append(f"{name} {SHORT.get(value, value)}")
    return words


@pytest.mark.parametrize("line", RECIPES, ids=lambda line: line.partition(":")[0])
def test_a_recipe_is_as_written(line):
    (module, name), (training, _, data) = (
        line.partition(":")[0].split(),
        line.partition(":")[2].partition(";"),
    )
    recipe = program_of(module).recipes[name]
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    if module == "alexnet":
        small = replace(alexnet.PRESETS[name], kernels=[1] * 5, hidden=1)
        net = alexnet.AlexNet(2, small)
    optimizer = recipe.optimizer(net, recipe.lr)
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert given == {id(p) for p in net.parameters()}
    kind, group = type(optimizer).__name__, optimizer.param_groups[0]
    how = f"momentum {group['momentum']:g}" if kind == "SGD" else (
        f"betas {group['betas'][0]:g} {group['betas'][1]:g} eps {group['eps']:g}"
    )  # fmt: skip
    decays = {}  # of weights, then of gains and biases, where they differ
    for each in optimizer.param_groups:
        for p in each["params"]:
            decays.setdefault(p.ndim > 1, set()).add(each["weight_decay"])
    of_weights, of_others = (decays[k].pop() for k in (True, False))
    assert not any(decays.values())
    decay = f"{of_weights:g}" + f" {of_others:g}" * (of_others != of_weights)
    rate = optimizer.lr
    schedule = schedule_in_words(recipe.make_schedule(optimizer, recipe.settings()))
    story = [f"{epoch} {what}={value}" for epoch, what, value in recipe.story]
    first = f"{recipe.epochs} x {recipe.batch_size}, {kind} {rate:g} {how}, decay {decay}"
    assert ", ".join([first, schedule, *story]) == training.strip()
    assert sorted(data_in_words(recipe.data)) == sorted(filter(None, data.strip().split(", ")))


def test_the_table_has_every_recipe():
    modules = [path.stem for path in (EXAMPLES / "history").glob("*.py")] + ["alexnet"]
    there = {f"{module} {name}" for module in modules for name in program_of(module).recipes}
    assert there == {line.partition(":")[0] for line in RECIPES}


def test_alexnet_alone_has_two_halves():
    for module in ("alexnet", *(path.stem for path in (EXAMPLES / "history").glob("*.py"))):
        assert program_of(module).devices == 1 + (module == "alexnet"), module


def test_the_default_is_the_small_one():
    for module, name in (
        ("alexnet", "mini"), ("vgg", "vgg-mini"), ("googlenet", "googlenet-mini"), ("gpt", "gpt"),
        ("resnet", "resnet20"), ("backprop", "families"), ("perceptron", "pictures"),
    ):  # fmt: skip
        assert next(iter(program_of(module).recipes)) == name


# --- Nets -----------------------------------------------------------------------------------------

PRESETS = {
    "paper": dict(
        image_size=224, kernels=[48, 128, 192, 192, 128], hidden=2048, towers=2, border=3,
        conv1=dict(kernel_size=11, stride=4), conv2=dict(kernel_size=5, padding=2),
        others=dict(kernel_size=3, padding=1), decay=5e-4, bias_decay=True, bias_lr=None, rates={},
        layers=("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"), dropout=0.5,
        crossings=("conv3", "fc6", "fc7"), inverted=False, alpha=5e-4,
        ones=("conv2", "conv4", "conv5", "fc6", "fc7"),
        after=dict(
            conv1="norm pool", conv2="norm pool", conv5="pool", fc6="dropout", fc7="dropout"
        ),
    ),
}  # fmt: skip
PRESETS["cfg145"] = PRESETS["paper"] | dict(
    alpha=1e-4, bias_lr=0.02, bias_decay=False,
    after=PRESETS["paper"]["after"]
    | dict(conv1="norm pool relu", conv2="norm same_map pool", conv5="pool relu"),
)  # fmt: skip
PRESETS["mini"] = PRESETS["paper"] | dict(
    image_size=28, kernels=[16, 32, 48, 48, 32], hidden=256, border=0, ones=(), inverted=True,
    conv1=dict(kernel_size=5, padding=2), conv2=dict(kernel_size=3, padding=1), dropout=0.2,
    rates=dict(conv1=10.0), bias_decay=False,
)  # fmt: skip
PRESETS["photos"] = PRESETS["mini"] | dict(
    image_size=56, decay=2e-3, conv1=dict(kernel_size=9, stride=2, padding=4),
    conv2=dict(kernel_size=5, padding=2),
)  # fmt: skip


@pytest.mark.parametrize("name", alexnet.PRESETS)
def test_a_preset_is_as_written(name):
    found = {k: v for k, v in vars(alexnet.PRESETS[name]).items() if k != "weights"}
    assert found == PRESETS[name]
    with pytest.raises(FrozenInstanceError):  # all nets of a program share it
        alexnet.PRESETS[name].hidden = 1
    stated = alexnet.state(name, None)
    assert stated == {k: v for k, v in found.items() if k != "image_size"}


def test_what_follows_a_layer():
    words = "norm same_map pool pool_apart pool_mean relu tanh flatten dropout"
    p = replace(alexnet.PAPER, alpha=0.25, dropout=0.3, inverted=True)
    norm, same, pool, apart, mean, relu, tanh, flatten, dropout = alexnet.after(words, p).layers
    assert norm.options == dict(size=5, alpha=0.25, beta=0.75, k=2.0)
    assert same.options == dict(size=5, alpha=0.001, beta=0.75, k=1.0)
    window = dict(kernel_size=3, stride=2, padding=0, ceil_mode=True)
    assert pool.options == window and mean.options == window | dict(count_include_pad=True)
    assert (apart.options["kernel_size"], apart.options["stride"]) == (2, None)
    assert relu.inplace and (dropout.p, dropout.inverted) == (0.3, True)
    assert isinstance(tanh, nn.Tanh) and isinstance(flatten, nn.Flatten)


SMALL = dict(classes=["a", "b", "c"], in_channels=1, image_size=28)
TEXT = dict(vocabulary=list("abcdefg"), length=64)
BUILT = {  # example, preset: what a checkpoint says, and the parameters of its net
    ("autoencoder", "codes"): (SMALL, 435_858), ("autoencoder", "denoising"): (SMALL, 439_728),
    ("backprop", "families"): (dict(inputs=[36]), 630), ("backprop", "xor"): (dict(inputs=[2]), 9),
    ("bert", "bert"): (TEXT, 819_336), ("bert", "bert-mini"): (TEXT, 109_000),
    ("gan", "gan"): (SMALL, 270_754), ("googlenet", "googlenet-mini"): (SMALL, 200_038),
    ("gpt", "gpt"): (TEXT, 802_176), ("gpt", "gpt-mini"): (TEXT, 104_512),
    ("lenet5", "lenet5"): (SMALL, 60_900), ("perceptron", "xor"): (dict(inputs=[2]), 3),
    ("resnet", "resnet20"): (SMALL, 268_979), ("resnet", "plain20"): (SMALL, 268_979),
    ("resnet", "resnet32"): (SMALL, 463_411), ("resnet", "plain56"): (SMALL, 852_275),
    ("resnet", "resnet56"): (SMALL, 852_275), ("resnet", "cifar"): (SMALL, 268_979),
    ("transformer", "transformer"): (dict(source=list("abc"), vocabulary=list("abcd")), 233_920),
    ("vae", "vae"): (SMALL, 652_824), ("vgg", "vgg-mini"): (SMALL, 381_251),
}  # fmt: skip


@pytest.mark.parametrize("module, preset", BUILT)
def test_a_checkpoint_builds_its_net(module, preset):
    about, parameters = BUILT[module, preset]
    net = program_of(module).build({"preset": preset, **about}, (tinynet.device("cpu:1"),))
    assert sum(p.size for p in net.parameters()) == parameters
    assert {part.device.name for part in (*net.parameters(), *net.buffers())} == {"cpu:1"}
    if module == "resnet":
        shortcuts = {m.shortcut for m in net.modules() if hasattr(m, "shortcut")}
        assert shortcuts == {not preset.startswith("plain")}
    if module == "autoencoder":
        assert net.noise == {"codes": 0.0, "denoising": 0.5}[preset]
    dropped = {"vgg": {0.5}, "googlenet": {0.4, 0.7}}.get(module, set())
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == dropped


SEEN = {module for (module, _), (about, _) in BUILT.items() if about is SMALL}
SAYS = {  # of pictures x, and of which shapes; other nets: logits of three classes
    "autoencoder": (lambda net, x: (net.encode(x), net(x)), [(2, 2), (2, 3, 36, 36)]),
    "gan": (lambda net, x: (net.judge(x), net.forge(5)), [(2,), (5, 3, 36, 36)]),
    "googlenet": (lambda net, x: net.train()(x), [(2, 3)] * 2),  # and an early classifier
    "vae": (lambda net, x: net(x), [(2, 3, 36, 36), (2, 20), (2, 20)]),
}


@pytest.mark.parametrize("module", sorted(SEEN))
def test_a_net_is_made_for_the_colours_and_the_sides_of_its_pictures(module, rng):
    """And each colour says something."""
    about = SMALL | dict(in_channels=3, image_size=36)
    about["preset"] = next(preset for name, preset in BUILT if name == module)
    net = program_of(module).build(about, (tinynet.device("cpu"),)).eval()
    x = tinynet.tensor(rng.random((2, 3, 36, 36), np.float32), requires_grad=True)
    ask, shapes = SAYS.get(module, (lambda net, x: (net(x),), [(2, 3)]))
    said = ask(net, x)
    assert [each.shape for each in said] == shapes
    sum(each.sum() for each in said).backward()
    assert (np.abs(x.grad.numpy()).max(axis=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("module", sorted({module for module, _ in BUILT}))
def test_the_seed_says_all_that_a_net_begins_with(module):
    """Weights and buffers, bit for bit; another seed, others."""
    preset, about = next((p, about) for (m, p), (about, _) in BUILT.items() if m == module)
    found = []
    for seed in (1, 1, 2):
        tinynet.manual_seed(seed)
        net = program_of(module).build({"preset": preset, **about}, (tinynet.device("cpu"),))
        found.append({name: array.tobytes() for name, array in net.state_dict().items()})
    assert found[0] == found[1]
    drawn = {name for name in found[0] if found[0][name] != found[2][name]}
    assert drawn and "c3.seen" not in drawn and ("codes" in drawn) == (module == "lenet5")


LAYERS = """
Autoencoder: down up; Families: person relation rest; Layers: layers
BERT: tokens places norm1 blocks head norm2 bias; bert.Block: attention norm1 widen narrow norm2
GAN: forger judge; Forger: fc norm1 up1 norm2 up2; Judge: down1 down2 norm fc
GoogLeNet: conv1 conv2 conv3 norm steps dropout fc; Inception: one three five pooled
Auxiliary: conv fc1 fc2 dropout
GPT: tokens places blocks; gpt.Block: attention norm1 widen narrow norm2
LeNet5: c1 s2 c3 s4 c5 f6 codes; Sampling: weight bias; Partial: seen weight bias
Perceptron: weight bias
ResNet: conv norm stages fc; resnet.Block: conv1 norm1 conv2 norm2
Transformer: words encoder decoder; Layer: look cross widen narrow norms
VAE: see mean log_variance widen paint; VGG: features fc1 fc2 fc3 dropout
"""


def test_layers_stand_in_their_order():
    """As print(net) shows them, as checkpoints keep them, and as chance draws their weights."""
    table = LAYERS.strip().replace("\n", "; ").split("; ")
    wanted = {name: parts.split() for name, _, parts in (line.partition(": ") for line in table)}
    seen = set()
    for module, preset in {module: preset for module, preset in [*BUILT][::-1]}.items():
        about = {"preset": preset, **BUILT[module, preset][0]}
        net = program_of(module).build(about, (tinynet.device("cpu"),))
        for each in net.modules():
            if type(each).__module__ == module:
                kind = type(each).__name__
                kind = f"{module}.Block" if kind == "Block" else kind
                names = [name for name, _ in (*each.named_children(), *each.state_dict().items())]
                found = list(dict.fromkeys(name.partition(".")[0] for name in names))
                assert found == [name for name in wanted[kind] if name in vars(each)], kind
                seen.add(kind)
    assert seen == {*wanted}


# --- Variants -------------------------------------------------------------------------------------

FOUR = dict(
    kernels=[32, 32, 64], layers=("conv1", "conv2", "conv3"), crossings=(), towers=1, decay=0.0,
    rates={}, conv1=dict(kernel_size=5, padding=2), conv2=dict(kernel_size=5, padding=2),
    others=dict(kernel_size=5, padding=2),
)  # fmt: skip
BYTES = dict(crop=24, centred=True, flip=False, scale=1.0)
SIXTH = dict(
    layers=("conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7"),
    kernels=[48, 128, 192, 192, 128, 128],
    ones=("conv2", "conv4", "conv5", "fc6", "fc7", "conv6"), weights=dict(conv6=0.03),
)  # fmt: skip
SLOW = dict.fromkeys("conv1 conv2 conv3 conv4 conv5 conv6 fc6 fc7".split(), 0.1)


def follows(**changes):
    """What follows the layers of cfg145, with other words."""
    words = dict(
        conv1="norm pool relu",
        conv2="norm same_map pool",
        conv5="pool relu",
        fc6="dropout",
        fc7="dropout",
    )
    found = {layer: kinds for layer, kinds in (words | changes).items() if kinds}
    return dict(after=found)


def four(activation, *sigmas):
    after = {f"conv{n}": f"{activation} pool{'_mean' * (n > 1)}" for n in (1, 2, 3)}
    return FOUR | dict(
        after=after, weights=dict(zip(("conv1", "conv2", "conv3", "fc8"), sigmas, strict=True))
    )


def without(layer, **more):
    return dict(layers=tuple(n for n in alexnet.CFG145.layers if n != layer)) | more


HE, XAVIER = (2 / 300) ** 0.5, (2 / 600) ** 0.5  # of weights (300, 300)
CHANGES = {  # variant: what differs from cfg145, and from its pictures
    "tanh": (
        follows(
            conv1="tanh norm pool", conv2="tanh norm same_map pool", conv3="tanh", conv4="tanh",
            conv5="tanh pool", fc6="tanh dropout", fc7="tanh dropout",
        ),
        {},
    ),
    "four-relu": (four("relu", 1e-4, 0.01, 0.01, 0.01), BYTES),
    "four-tanh": (four("tanh", 1e-4, 0.01, 0.01, 0.01), BYTES),
    "four-relu-he": (four("relu", HE, HE, HE, HE), BYTES | dict(scale=1 / 64)),
    "four-tanh-xavier": (four("tanh", XAVIER, XAVIER, XAVIER, XAVIER), BYTES | dict(scale=1 / 64)),
    "no-norm": (follows(conv1="pool relu", conv2="same_map pool"), {}),
    "pools-apart": (
        follows(
            conv1="norm pool_apart relu", conv2="norm same_map pool_apart", conv5="pool_apart relu"
        ),
        {},
    ),
    "no-dropout": (follows(fc6="", fc7=""), {}),
    "centre": ({}, dict(centred=True)),
    "no-mirror": ({}, dict(flip=False)),
    "noise": ({}, dict(colour=0.1)),
    "no-noise": ({}, dict(colour=0.0)),
    "no-talk": (dict(crossings=()), {}),
    "many-kernels": (dict(kernels=[48, 128, 192, 192, 128]), {}),
    "many-kernels-early-talk": (dict(crossings=("conv2", "conv3", "fc6", "fc7")), {}),
    "one-tower": (dict(kernels=[48, 128, 192, 192, 256], hidden=4096, crossings=(), towers=1), {}),
    "no-conv2": (
        without("conv2", **follows(conv1="norm pool relu norm same_map pool", conv2="")), {}
    ),
    "no-conv3": (without("conv3", crossings=("conv4", "fc6", "fc7")), {}),
    "no-conv4": (without("conv4"), {}),
    "no-conv5": (without("conv5", **follows(conv4="pool relu", conv5="")), {}),
    "conv6": (SIXTH, {}),
    "tuned": (SIXTH | dict(rates=SLOW | dict(conv1=0.01)), {}),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_changes_what_it_says_and_nothing_else(variant):
    changes, of_data = CHANGES[variant]
    before, found = alexnet.CFG145, varied(alexnet.CFG145, variant)
    for each in fields(alexnet.Preset):
        value = getattr(found, each.name)
        wanted = changes.get(each.name, getattr(before, each.name))
        if each.name == "after":
            value = {layer: kinds for layer, kinds in value.items() if kinds}
        if each.name == "weights":
            tinynet.manual_seed(0)
            assert {name: start for name, start in value.items() if name not in wanted} == {
                name: start for name, start in before.weights.items() if name not in wanted
            }
            for name in wanted.keys() & changes.get("weights", {}).keys():
                assert value[name]((300, 300)).std() == pytest.approx(wanted[name], rel=0.02), name
        else:
            assert value == wanted, each.name
    recipe = alexnet.PROGRAM.recipe("cfg145", variant)
    plain = alexnet.RECIPES["cfg145"]
    assert recipe == replace(
        plain, title=f"cfg145 AlexNet ({variant})", data=replace(plain.data, **of_data)
    )


def test_a_smaller_net_has_more_kernels_where_it_has_few():
    assert varied(alexnet.MINI, "many-kernels").kernels == [32, 32, 48, 48, 32]
    assert varied(alexnet.MINI, "tuned").rates == SLOW  # conv1: a hundredth of ten times


def test_a_checkpoint_of_a_variant_builds_its_net_with_its_first_weights():
    about = {"preset": "mini", "variant": "four-relu", "classes": ["a", "b"], "in_channels": 1}
    about |= {"image_size": 24, "net": alexnet.state("mini", "four-relu")}
    net = alexnet.build(about, (tinynet.device("cpu"),) * 2)
    assert net.preset.layers == ("conv1", "conv2", "conv3")
    assert net.a.conv1.weight.numpy().std() == pytest.approx(1e-4, rel=0.1)
    del about["net"]  # as old ones, which state nothing: inverted
    assert alexnet.build(about, (tinynet.device("cpu"),) * 2).preset.inverted
    assert np.isfinite(net.fc8.weight.numpy()).all()
