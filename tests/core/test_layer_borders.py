"""Layers and modules at their borders: what is refused, what is loaded, what is found once."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn


def same(**changed):
    options = dict(stride=2, padding=1, groups=2, relu=True) | changed
    return nn.Conv2d(4, 6, 3, **options)


@pytest.mark.parametrize(
    "changed", [dict(stride=1), dict(padding=0), dict(groups=1), dict(relu=False), dict(dilation=2)]
)
def test_convolutions_in_one_are_alike_in_every_option(changed):
    """Whichever of them is another one; and none is dilated, though all are."""
    x = tinynet.tensor(np.ones((1, 4, 7, 7), np.float32))
    for layers in (
        [same(), same(**changed)],
        [same(**changed), same()],
        [same(), same(), same(**changed)],
    ):
        with pytest.raises(ValueError, match="Conv2d.each: expected layers of one stride"):
            nn.Conv2d.each(layers, x)
    if "dilation" in changed:
        with pytest.raises(ValueError, match="without dilation"):
            nn.Conv2d.each([same(**changed)] * 2, x)
    else:
        nn.Conv2d.each([same(**changed)] * 2, x)
    with pytest.raises(ValueError, match="got none"):
        nn.Conv2d.each([], x)
    nn.Conv2d.each([same(dilation=(1, 1)), same(dilation=(1, 1))], x)


@pytest.mark.parametrize("layer", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize(
    "options, name",
    [
        (dict(kernel_size=0), "kernel_size"), (dict(kernel_size=(2, 0)), "kernel_size"),
        (dict(kernel_size=2, stride=0), "stride"), (dict(kernel_size=2, stride=(1, 0)), "stride"),
        (dict(kernel_size=2, padding=-1), "padding"), (dict(kernel_size=2, stride=1.5), "stride"),
    ],
)  # fmt: skip
def test_windows_that_make_no_sense(layer, options, name):
    with pytest.raises(ValueError, match=f"{layer.__name__}: expected {name}"):
        layer(**options)


# layer: what it needs, and the sizes among its arguments that may be 0
WINDOW, CONV = (
    dict(kernel_size=2, stride=1, padding=0),
    dict(in_channels=2, out_channels=2, groups=1),
)
SIZES = {
    nn.Conv2d: (CONV | dict(kernel_size=2, stride=1, dilation=1, padding=0), ["padding"]),
    nn.ConvTranspose2d: (CONV | WINDOW | dict(output_padding=0), ["padding", "output_padding"]),
    nn.Linear: (dict(in_features=2, out_features=2), []),
    nn.MaxPool2d: (WINDOW, ["padding"]),
    nn.AvgPool2d: (WINDOW, ["padding"]),
    nn.AdaptiveAvgPool2d: (dict(output_size=2), []),
    nn.Upsample: (dict(scale_factor=2), []),
    nn.BatchNorm1d: (dict(num_features=2), []),
    nn.BatchNorm2d: (dict(num_features=2), []),
    nn.LayerNorm: (dict(normalized_shape=2), []),
    nn.LocalResponseNorm: (dict(size=2), []),
    nn.SpatialResponseNorm: (dict(size=2), []),
    nn.Embedding: (dict(num_embeddings=2, embedding_dim=2), []),
}


@pytest.mark.parametrize("layer", SIZES)
def test_sizes_of_a_layer_are_whole_numbers_when_it_is_made(layer):
    """Not only at the first batch."""
    options, from_0 = SIZES[layer]
    layer(**{name: np.int64(size) for name, size in options.items()})
    for name in options:
        least = 0 if name in from_0 else 1
        layer(**options | {name: least})
        for wrong in (
            least - 1,
            1.0,
            True,
            "a",
            (1, least - 1),
            (1, 1, 0),
            *[None] * (name != "stride"),
        ):
            with pytest.raises(
                ValueError, match=f"^{layer.__name__}: expected {name} to be an int"
            ):
                layer(**options | {name: wrong})


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_groups_that_do_not_divide_the_channels(layer):
    """Of what comes in, and of what goes out."""
    layer(4, 6, 3, groups=2)
    for channels in ((4, 5), (5, 6)):
        with pytest.raises(ValueError, match=f"^{layer.__name__}: expected .* divisible by groups"):
            layer(*channels, 3, groups=2)


@pytest.mark.parametrize("embed, heads", [(4, 0), (4, -2), (4, 3), (5, 2), (6, 12)])
def test_heads_that_do_not_divide(embed, heads):
    with pytest.raises(
        ValueError, match=f"expected embed_dim divisible by num_heads, got {embed} "
    ):
        nn.MultiHeadAttention(embed, heads)


def test_shares_have_the_precision_of_their_queries(rng):
    layer = nn.MultiHeadAttention(4, 2)
    for parameter in layer.parameters():
        parameter.data = parameter.data.astype(np.float64)
    x = tinynet.tensor(rng.normal(size=(2, 3, 4)))
    shares = layer.shares(x).numpy()
    assert shares.dtype == np.float64
    np.testing.assert_allclose(shares.sum(axis=3), 1, rtol=1e-14)


LOSSES = {
    nn.CrossEntropyLoss: F.cross_entropy, nn.NLLLoss: F.nll_loss, nn.MSELoss: F.mse_loss,
    nn.BCEWithLogitsLoss: F.bce_with_logits,
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_is_reduced_as_it_says(loss, reduction, rng):
    x = tinynet.tensor(rng.normal(size=(4, 3)))
    classes = loss in (nn.CrossEntropyLoss, nn.NLLLoss)
    target = np.array([0, 2, 1, 1]) if classes else tinynet.tensor(rng.random((4, 3)))
    found = loss(reduction)(x, target).numpy()
    each = LOSSES[loss](x, target, "none").numpy()
    np.testing.assert_allclose(
        found, {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]
    )
    assert repr(loss(reduction)) == f"{loss.__name__}({reduction})"
    if loss is nn.CrossEntropyLoss:
        smooth = loss(reduction, 0.1)(x, target).numpy()
        np.testing.assert_array_equal(smooth, F.cross_entropy(x, target, reduction, 0.1).numpy())
        assert repr(loss(reduction, 0.1)) == f"CrossEntropyLoss({reduction}, label_smoothing 0.1)"


@pytest.mark.parametrize("shape", [4, (4,), (2, 3), (2, 3, 4)])
def test_a_layer_norm_is_over_all_axes_it_names(shape, rng):
    layer = nn.LayerNorm(shape)
    sizes = (shape,) if isinstance(shape, int) else shape
    assert layer.weight.shape == layer.bias.shape == layer.normalized_shape == sizes
    x = rng.normal(size=(5, *sizes)).astype(np.float32)
    axes = tuple(range(1, x.ndim))
    wanted = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(tinynet.tensor(x)).numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer, axes", [(nn.BatchNorm1d, (2, 3)), (nn.BatchNorm2d, (4,))])
def test_a_batch_norm_takes_its_own_forms(layer, axes):
    for ndim in range(1, 6):
        x = tinynet.tensor(np.ones((3, 4, 2, 2, 2)[:ndim], np.float32))
        if ndim in axes:
            assert layer(4)(x).shape == x.shape
        else:
            with pytest.raises(ValueError, match=f"{layer.__name__}: expected x of shape"):
                layer(4)(x)
    with pytest.raises(ValueError, match=layer.__name__):
        layer(0)


def test_a_batch_norm_moves_by_its_momentum_and_divides_by_its_eps(rng):
    """momentum and eps are other numbers: neither stands for the other."""
    layer = nn.BatchNorm1d(2, eps=0.5, momentum=0.25)
    x = rng.normal(3, 2, size=(6, 2)).astype(np.float32)
    y = layer(tinynet.tensor(x)).numpy()
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 0.5), rtol=1e-4)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.25 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.75 + 0.25 * x.var(0, ddof=1), rtol=1e-5)


# --- Modules --------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        self.a = nn.Parameter(np.zeros(2, np.float32))
        self.b = nn.Parameter(np.zeros((2, 2), np.float64))
        self.c = nn.Buffer(np.zeros(3, np.int64))


def test_what_is_loaded_takes_the_dtype_that_is_there():
    net = Net()
    net.load_state_dict({"a": np.ones(2), "b": np.ones((2, 2), np.float32), "c": [1, 2, 3]})
    assert [part.dtype for part in (net.a, net.b, net.c)] == [np.float32, np.float64, np.int64]
    assert net.a.numpy().tolist() == [1, 1] and net.c.numpy().tolist() == [1, 2, 3]
    assert net.b.data.flags.c_contiguous


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("wrong", [np.array(["x", "y"]), np.ones(7), None])
def test_nothing_is_loaded_where_one_is_wrong(name, wrong):
    """Whichever it is, a name more, a name less, another shape, or no numbers."""
    net = Net()
    state = {n: array + 1 for n, array in net.state_dict().items()}
    if wrong is None:
        del state[name]
    else:
        state[name] = wrong if wrong.dtype.kind == "f" else np.full(state[name].shape, "x", object)
    for each in (state, {n: array + 1 for n, array in net.state_dict().items()} | {"d": 1}):
        with pytest.raises((ValueError, TypeError)):
            net.load_state_dict(each)
        assert not any(part.numpy().any() for part in (net.a, net.b, net.c))


def test_parts_are_found_once_by_every_path():
    layer, shared = nn.Linear(2, 2), nn.Parameter(np.zeros(2))

    class Tree(nn.Module):
        def __init__(self):
            row = [layer, shared]
            self.rows, self.again = [row, row], row  # one list, by three paths
            self.named = {"x": layer, 5: shared, "y": nn.ReLU()}
            self.kept = nn.Buffer(np.zeros(4))

    net = Tree()
    assert sorted(name for name, _ in net.named_parameters()) == [
        "rows.0.0.bias", "rows.0.0.weight", "rows.0.1"
    ]  # fmt: skip
    assert [name for name, _ in net.named_children()] == ["rows.0.0", "named.y"]
    assert [name for name, _ in net.named_modules("top")] == ["top", "top.rows.0.0", "top.named.y"]
    assert [name for name, _ in net.named_buffers()] == ["kept"]
    first = repr(net).splitlines()[0]
    assert "kept (4,)" in first and first.endswith(", 8 parameters, 4 in buffers)")


@pytest.mark.parametrize("kind", [nn.Parameter, nn.Buffer])
def test_a_copy_lies_where_it_is_asked_to(kind):
    """On the device that is said; else on that of a tensor; else on the CPU. Always a copy."""
    array = np.ones((2, 3), np.float32)
    there = tinynet.tensor(array, device="cpu:1")
    for data, device in itertools.product((array, there), (None, "cpu", "cpu:1")):
        found = kind(data, device)
        wanted = device or ("cpu:1" if data is there else "cpu")
        assert found.device == wanted and found.requires_grad == (kind is nn.Parameter)
        found.data[...] = 7
        assert array.max() == 1 == there.numpy().max()
    assert kind(array.T).data.flags.c_contiguous


def test_only_tensors_of_its_kind_take_a_parts_place():
    net = Net()
    for name in ("a", "c"):
        kind = type(getattr(net, name)).__name__
        with pytest.raises(TypeError, match=f"Net.{name}: expected a {kind}, got a Tensor"):
            setattr(net, name, tinynet.tensor(np.zeros(2)))
    net.a, net.c = nn.Buffer(np.ones(5)), None
    assert [name for name, _ in net.named_buffers()] == ["a"]
    net.free = tinynet.tensor(np.zeros(2))  # no part: neither saved nor moved
    assert list(net.state_dict()) == ["a", "b"]
