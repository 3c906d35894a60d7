"""Module: what it owns and under which names, state, moving, copies, repr."""

from __future__ import annotations

import copy
import itertools
import operator
import warnings

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn, optim


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Conv2d(1, 2, 3)
        self.towers = [nn.Sequential(nn.Linear(8, 3), nn.Dropout(0.5)), nn.Linear(3, 2, bias=False)]
        self.scale = nn.Parameter(np.ones(2, np.float32))
        self.again = self.first  # the same module under a second name
        self.words = "not a parameter"

    def forward(self, x):
        x = self.first(x).flatten(1)
        for tower in self.towers:
            x = tower(x)
        return x * self.scale


def test_names_of_parameters_and_modules():
    net = Net()
    names = [name for name, _ in net.named_parameters()]
    assert names == [
        "scale",
        "first.weight",
        "first.bias",
        "towers.0.layers.0.weight",
        "towers.0.layers.0.bias",
        "towers.1.weight",
    ]
    assert len(list(net.parameters())) == 6
    modules = [name for name, _ in net.named_modules()]
    assert modules == [
        "",
        "first",
        "towers.0",
        "towers.0.layers.0",
        "towers.0.layers.1",
        "towers.1",
    ]
    assert [name for name, _ in net.named_modules("net")][:2] == ["net", "net.first"]
    tower = net.towers[0]
    assert len(tower) == 2 and tower[1].p == 0.5 and tower[-1] is tower[1]


def test_state_dict_there_and_back(rng):
    net, other = Net(), Net()
    state = net.state_dict()
    state["scale"][:] = 7  # a copy
    assert (net.scale.numpy() == 1).all()
    other.load_state_dict(state)
    assert (other.scale.numpy() == 7).all()
    np.testing.assert_array_equal(other.first.weight.numpy(), net.first.weight.numpy())
    state["first.weight"][:] = 0
    assert other.first.weight.numpy().any()
    other.load_state_dict({k: v.astype(np.float64) for k, v in state.items()})
    assert other.scale.dtype == np.float32
    other.to("cpu:1").load_state_dict(net.state_dict())  # what is loaded goes where the part is
    assert {part.device.name for part in other.parameters()} == {"cpu:1"}
    np.testing.assert_array_equal(other.scale.numpy(), net.scale.numpy())


def test_what_is_frozen_is_named_saved_and_loaded():
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    net.weight.requires_grad = other.weight.requires_grad = False
    assert [name for name, _ in net.named_parameters()] == ["weight", "bias"]
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other.weight.numpy(), net.weight.numpy())


def test_load_state_dict_is_strict_and_changes_nothing_when_it_refuses():
    net = Net()
    state = {name: np.zeros_like(value) for name, value in net.state_dict().items()}
    last = [*state][-1]
    for change, message in [
        (lambda s: s.pop("scale"), r"missing \['scale'\], unexpected \[\]"),
        (lambda s: s.update(odd=np.ones(1)), r"missing \[\], unexpected \['odd'\]"),
        (lambda s: s.update(scale=np.ones(3)), r"expected scale of shape \(2,\), got \(3,\)"),
        (
            lambda s: s.update({"towers.1.weight": np.ones((3, 2))}),
            r"towers.1.weight of shape \(2, 3\), got \(3, 2\)",
        ),
        (lambda s: s.update({last: s[last].astype(object)}), f"{last}: expected numbers"),
    ]:
        wrong = dict(state)
        change(wrong)
        with pytest.raises(ValueError, match=message):
            net.load_state_dict(wrong)
        assert all(part.any() for name, part in net.state_dict().items() if "bias" not in name)


def test_train_and_eval_reach_every_module(rng):
    net = Net()
    x = tinynet.tensor(rng.normal(size=(4, 1, 4, 4)).astype(np.float32))
    dropout = net.towers[0][1]
    assert net.training and dropout.training
    assert net.eval() is net and not dropout.training
    assert (net(x).numpy() == net(x).numpy()).all()
    assert net.train() is net and dropout.training
    assert (net(x).numpy() != net(x).numpy()).any()
    net.eval()
    dropout.training = True  # one was set by itself since
    assert not net.eval().towers[0][1].training
    assert nn.Module.training and nn.Dropout.training  # the classes were not touched


def test_to_moves_parameters_gradients_and_optimiser(rng):
    net = Net()
    opt = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = tinynet.tensor(rng.normal(size=(4, 1, 4, 4)).astype(np.float32))
    net(x).sum().backward()
    opt.step()
    twin, twin_opt = copy.deepcopy((net, opt))
    assert twin.to("cpu:1") is twin
    for parameter, original in zip(twin.parameters(), net.parameters(), strict=True):
        assert parameter.device == "cpu:1" and parameter.grad.device == "cpu:1"
        assert original.device == "cpu" and original.grad.device == "cpu"
        np.testing.assert_array_equal(parameter.data, original.data)
        assert not np.shares_memory(parameter.data, original.data)
        assert not np.shares_memory(parameter.grad.data, original.grad.data)
    assert twin.again is twin.first
    owned = [p for group in twin_opt.param_groups for p in group["params"]]
    assert all(a is b for a, b in zip(owned, twin.parameters(), strict=True))
    # Both go on by the same steps, each on its device.
    tinynet.manual_seed(5)
    net(x).sum().backward()
    opt.step()
    tinynet.manual_seed(5)
    twin(x.to("cpu:1")).sum().backward()
    twin_opt.step()
    for parameter, original in zip(twin.parameters(), net.parameters(), strict=True):
        np.testing.assert_array_equal(parameter.data, original.data)
        assert (
            twin_opt.state[parameter]["velocity"].device == "cpu:1"
            and opt.state[original]["velocity"].device == "cpu"
        )
        np.testing.assert_array_equal(
            twin_opt.last_step(parameter).data, opt.last_step(original).data
        )
    with pytest.raises(tinynet.DeviceMismatchError):
        twin(x)


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match=r"Module needs a forward"):
        nn.Module()(1)


# Dicts, nested lists, shared parts, cycles


class Nested(nn.Module):
    def __init__(self):
        self.blocks = [[nn.Tanh(), nn.Linear(2, 3)], (nn.Linear(3, 2),)]
        self.heads = {"left": nn.Linear(2, 1), "right": {"deep": [nn.Parameter(np.ones(4))]}}
        self.means = {7: nn.Buffer(np.zeros(2))}
        self.blocks.append(self.blocks)  # a list that contains itself
        self.me = self
        self.also = {"left": self.heads["left"], "gain": self.heads["right"]["deep"][0]}

    def forward(self, x):
        return self.heads["left"](self.blocks[1][0](self.blocks[0][1](x)))


def test_layers_in_dicts_and_nested_lists():
    net = Nested()
    assert [name for name, _ in net.named_parameters()] == [
        "heads.right.deep.0",
        "blocks.0.1.weight",
        "blocks.0.1.bias",
        "blocks.1.0.weight",
        "blocks.1.0.bias",
        "heads.left.weight",
        "heads.left.bias",
    ]
    assert [name for name, _ in net.named_buffers()] == ["means.7"]
    assert [name for name, _ in net.named_children()] == [
        "blocks.0.0",
        "blocks.0.1",
        "blocks.1.0",
        "heads.left",
        "me",
    ]
    assert list(net.modules()) == [
        net,
        *net.blocks[0],
        *net.blocks[1],
        net.heads["left"],
    ]
    assert len(list(net.parameters())) == 7 and list(net.buffers()) == [net.means[7]]
    twin = copy.deepcopy(net)
    assert twin.also["gain"] is twin.heads["right"]["deep"][0] is not net.also["gain"]
    assert list(twin.state_dict()) == list(net.state_dict())
    net.train(False)
    assert not net.blocks[0][0].training and twin.blocks[0][0].training


@pytest.mark.parametrize("name", ["_part", "__part", "_", "part_", "_0"])
def test_a_name_hides_no_part(name):
    """Parts are found, saved, moved and shown under every name: of attributes and keys."""
    made = [nn.Linear(2, 1), nn.Parameter(np.ones(2)), nn.Buffer(np.ones(3))]
    for wrap, path in (
        (lambda part: part, ""), (lambda part: [part], ".0"),
        (lambda part: {name: part}, f".{name}"), (lambda part: ({name: [part]},), f".0.{name}.0"),
    ):  # fmt: skip
        found = []
        for part in made:
            net = nn.Module()
            setattr(net, name, wrap(part))
            found += net.state_dict()
            assert [each for each, _ in net.named_children()] == (
                [name + path] if isinstance(part, nn.Module) else []
            )
            net.eval().to("cpu:1")
            owned = part._state().values() if isinstance(part, nn.Module) else [part]
            assert {str(each.device) for each in owned} == {"cpu:1"} and name + path in repr(net)
            net.train().to("cpu")
        assert found == [f"{name}{path}{end}" for end in (".weight", ".bias", "", "")]


def test_a_list_that_holds_itself_is_left():
    net, layer = nn.Module(), nn.Linear(1, 1)
    net.parts = [layer]
    net.parts += [net.parts, net.parts]  # twice: a walk that goes in would never end
    assert [name for name, _ in net.named_children()] == ["parts.0"]


def test_two_parts_of_one_name_are_refused():
    net = nn.Module()
    net.heads = {0: nn.Linear(1, 1), "0": nn.Linear(1, 1)}
    with pytest.raises(ValueError, match=r"got two named heads.0"):
        net.state_dict()
    net.heads = {0: nn.Parameter(np.ones(1)), "0": nn.Buffer(np.ones(1))}
    with pytest.raises(ValueError, match=r"got two named heads.0; change a key"):
        net.state_dict()


def test_apply_reaches_each_module_once_children_first():
    net, seen = Nested(), []
    assert net.apply(seen.append) is net
    assert seen[-1] is net and set(seen) == set(net.modules()) and len(seen) == 5
    tower = nn.Sequential(nn.Sequential(nn.Tanh(), nn.ReLU()), nn.Sigmoid())
    names = []
    tower.apply(lambda module: names.append(type(module).__name__))
    assert names == ["Tanh", "ReLU", "Sequential", "Sigmoid", "Sequential"]


def test_a_slice_of_layers_is_a_sequential_of_the_same_layers():
    net = nn.Sequential(nn.Tanh(), nn.Linear(2, 3), nn.ReLU())
    part = net[1:]
    assert isinstance(part, nn.Sequential) and part.layers == net.layers[1:]
    assert next(iter(part.parameters())) is net[1].weight and net[-1] is net.layers[2]
    net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    for start, stop, step in itertools.product((None, 0, 2, -2, 7), repeat=3):
        if step != 0:
            part = net[start:stop:step]
            assert isinstance(part, nn.Sequential) and part is not net
            assert part.layers == net.layers[start:stop:step] and len(part) == len(part.layers)


def test_a_layer_may_stand_at_several_places(rng):
    """It is called at each of them, and learns from all; as a part it counts once."""
    linear, act = nn.Linear(2, 2), nn.Tanh()
    net = nn.Sequential(linear, act, linear, act)
    x = tinynet.tensor(rng.normal(size=(3, 2)).astype(np.float32))
    y = act(linear(act(linear(x))))
    np.testing.assert_array_equal(net(x).numpy(), y.numpy())
    np.testing.assert_array_equal(net[1:](x).numpy(), act(linear(act(x))).numpy())
    assert [*net] == [linear, act, linear, act] and len(net) == 4 and len(net[2:]) == 2
    y.sum().backward()
    by_hand = linear.weight.grad.numpy()
    net.zero_grad()
    net(x).sum().backward()
    np.testing.assert_array_equal(linear.weight.grad.numpy(), by_hand)
    assert [name for name, _ in net.named_parameters()] == ["layers.0.weight", "layers.0.bias"]
    assert [*net.modules()].count(linear) == 1


def test_zero_grad_of_a_module(rng):
    net = Nested()
    net(tinynet.tensor(rng.normal(size=(3, 2)).astype(np.float32))).sum().backward()
    assert sum(p.grad is not None for p in net.parameters()) == 6  # one has no part in forward
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_call_hands_keyword_arguments_on():
    class Scale(nn.Module):
        def forward(self, x, factor=1.0, *, plus=0.0):
            return x * factor + plus

    x = tinynet.tensor([1.0, 2.0])
    assert Scale()(x, plus=1, factor=3).numpy().tolist() == [4, 7]
    with tinynet.tracing():
        assert Scale()(x, 3, plus=1).numpy().tolist() == [4, 7]
    with pytest.raises(TypeError, match="mean"):
        Scale()(x, mean=0)


# Buffers


class Norm(nn.Module):
    """(x - running mean) * gain; in training the mean follows the batches."""

    def __init__(self):
        self.gain = nn.Parameter(np.ones(2, np.float32))
        self.mean = nn.Buffer(np.zeros(2, np.float32))
        self.batches = nn.Buffer(np.array(0))

    def forward(self, x):
        if self.training:
            self.mean.data = 0.5 * self.mean.data + 0.5 * x.data.mean(0)
            self.batches.data += 1
        return (x - self.mean) * self.gain


def test_a_buffer_is_state_and_not_learned():
    net = nn.Sequential(Norm(), nn.Linear(2, 1))
    assert [name for name, _ in net.named_buffers()] == ["layers.0.mean", "layers.0.batches"]
    assert [name for name, _ in net.named_parameters()] == [
        "layers.0.gain",
        "layers.1.weight",
        "layers.1.bias",
    ]
    norm = net[0]
    net(tinynet.tensor([[1.0, 2.0], [3.0, 6.0]])).sum().backward()
    assert norm.mean.grad is None and not norm.mean.requires_grad and norm.gain.grad is not None
    assert norm.mean.numpy().tolist() == [1, 2] and norm.batches.item() == 1
    state = net.state_dict()
    assert state["layers.0.batches"].shape == () and state["layers.0.batches"].dtype == np.int64
    state["layers.0.mean"][:] = 9
    assert norm.mean.numpy().tolist() == [1, 2]  # the state is a copy
    twin = copy.deepcopy(net)
    twin[0].mean.data[:] = 0
    assert norm.mean.numpy().tolist() == [1, 2] and isinstance(twin[0].mean, nn.Buffer)
    assert net.to("cpu:1") is net
    assert norm.mean.device == norm.batches.device == norm.gain.device == "cpu:1"
    assert isinstance(norm.mean, nn.Buffer) and norm.mean.numpy().tolist() == [1, 2]


def test_a_tensor_cannot_take_the_place_of_a_buffer():
    norm = Norm()
    with pytest.raises(
        TypeError, match=r"Norm.mean: expected a Buffer, got a Tensor; set mean.data"
    ):
        norm.mean = 0.5 * norm.mean
    with pytest.raises(TypeError, match="Norm.gain: expected a Parameter"):
        norm.gain = norm.gain * 2
    norm.last = norm.mean * 2  # other attributes hold what they like
    norm.mean, norm.gain = nn.Buffer(np.ones(2)), None
    assert list(norm.state_dict()) == ["mean", "batches"]


@pytest.mark.parametrize("name", ["train", "eval", "parameters", "forward", "to", "_state"])
def test_an_attribute_may_not_hide_a_method(name):
    """`self.train = nn.Linear(...)`, and net.train() would be a layer's call."""
    net = Norm()
    for value in (nn.Linear(2, 2), [nn.Linear(2, 2)], nn.Parameter(np.ones(2)), None, True):
        with pytest.raises(TypeError, match=f"^Norm.{name}: expected a name of its own, got that "):
            setattr(net, name, value)
    setattr(net, name, lambda *given: given)  # to watch its calls
    assert getattr(net, name)(1) == (1,)


def test_a_tensor_that_no_optimiser_will_find_is_told():
    """Those in lists, too; not the result of an operation, and not what needs no gradient."""
    net, w = nn.Module(), tinynet.ones(2, requires_grad=True)
    told = "a tensor that requires a gradient is not among the parameters"
    for value, path in ((w, "own"), ([tinynet.ones(2), {"a": w}], "own.1.a")):
        with pytest.warns(UserWarning, match=f"^Module.{path}: {told}"):
            net.own = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.own = [w * 2, w.detach(), nn.Parameter(np.ones(2)), nn.Buffer(np.ones(2)), nn.ReLU()]
        net.plain = tinynet.ones(5)
    assert [*net.state_dict()] == ["own.2", "own.3"] and "own.1" not in repr(net)


@pytest.mark.parametrize("kind", [nn.Parameter, nn.Buffer])
def test_a_kind_of_parameter_of_ones_own_is_a_parameter(kind):
    class Own(kind):
        pass

    net = nn.Module()
    net.part, net.parts = Own(np.ones(2)), [Own(np.ones(3))]
    found = net.named_parameters() if kind is nn.Parameter else net.named_buffers()
    assert [name for name, _ in found] == [*net.state_dict()] == ["part", "parts.0"]
    assert net.to("cpu:1").part.device == net.parts[0].device == "cpu:1"
    with pytest.raises(TypeError, match="Module.part: expected a Own, got a Tensor"):
        net.part = tinynet.ones(2)
    assert type(copy.deepcopy(net).part) is Own
    net.part = Own(np.zeros(2))
    assert net.state_dict()["part"].tolist() == [0, 0]


def test_training_goes_on_from_a_state_with_buffers(rng):
    batches = [tinynet.tensor(rng.normal(size=(4, 2)).astype(np.float32)) for _ in range(6)]

    def train(net, opt, some):
        for x in some:
            opt.zero_grad()
            y = net(x)
            (y * y).sum().backward()
            opt.step()

    def made():
        net = nn.Sequential(Norm(), nn.Linear(2, 2))
        return net, optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    net, opt = made()
    train(net, opt, batches[:3])
    other, other_opt = made()
    other.load_state_dict(net.state_dict())
    other_opt.load_state_dict(opt.state_dict())
    train(net, opt, batches[3:])
    train(other, other_opt, batches[3:])
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], value)
    assert other[0].batches.item() == 6 and other[0].batches.dtype == np.int64
    missing = net.state_dict()
    del missing["layers.0.mean"]
    with pytest.raises(ValueError, match=r"missing \['layers.0.mean'\], unexpected \[\]"):
        other.load_state_dict(missing)


# Parameters of arrays, lists and tensors


@pytest.mark.parametrize("kind", [nn.Parameter, nn.Buffer])
def test_what_a_parameter_or_buffer_is_made_of(kind):
    x = tinynet.tensor([[1.0, 2.0], [3.0, 4.0]], device="cpu:1", requires_grad=True)
    made = kind(x.transpose())
    assert made.device == "cpu:1" and made.node is None and made.data.flags.c_contiguous
    assert made.numpy().tolist() == [[1, 3], [2, 4]]
    array = np.ones(2, np.float32)
    kind(array).data[:] = 0
    assert array.all()
    made.data[:] = 0
    assert x.data.all()
    assert kind(x, device="cpu").device == "cpu" and kind(np.ones(2)).device == "cpu"
    assert kind([1.0]).dtype == np.float32 and kind(np.ones(2)).dtype == np.float64
    assert kind(2.0).shape == () and isinstance(kind(2.0).data, np.ndarray)


def test_a_parameter_is_of_floats():
    with pytest.raises(ValueError, match="Parameter: expected dtype float32 or float64, got int64"):
        nn.Parameter([1, 2])
    assert nn.Buffer([1, 2]).dtype == np.int64


OBJECTS = np.array([1.0, "a"], object)


@pytest.mark.parametrize(
    "call",
    [
        tinynet.tensor,
        nn.Parameter,
        nn.Buffer,
        lambda o: tinynet.tensor([1], dtype=o.dtype),
        lambda o: leaf().backward(o),
        lambda o: nn.Linear(2, 1, bias=False).load_state_dict({"weight": o[None]}),
        lambda o: F.maximum(leaf(), o),
        *[
            lambda o, turn=turn, op=op: op(*((leaf(), o)[::turn]))
            for op in (operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul)
            for turn in (1, -1)
        ],
    ],
)
def test_arrays_of_objects_are_refused_in_one_line(call):
    with pytest.raises(ValueError, match=r"expected .*numbers, got .*object") as caught:
        call(OBJECTS)
    assert "\n" not in str(caught.value)


def leaf():
    return tinynet.tensor([1.0, 2.0], requires_grad=True)


# repr


# Every layer with options that are not the usual ones: its line, and the function that it stands
# for, of the layer and an input of the shape.
LAYERS = [
    (nn.Conv2d(3, 64, 11, stride=4, padding=2),
     "Conv2d(3 -> 64, kernel 11x11, stride 4, padding 2, 23,296 parameters)",
     lambda m, x: F.conv2d(x, m.weight, m.bias, 4, 2), (1, 3, 15, 15)),
    (nn.Conv2d(4, 6, (3, 2), groups=2, bias=False, relu=True, dilation=(2, 1)),
     "Conv2d(4 -> 6, kernel 3x2, stride 1, padding 0, dilation (2, 1), groups 2, relu, "
     "72 parameters)",
     lambda m, x: F.conv2d(x, m.weight, groups=2, relu=True, dilation=(2, 1)), (2, 4, 7, 6)),
    (nn.ConvTranspose2d(4, 6, (3, 2), stride=2, padding=1, output_padding=1, groups=2, bias=False),
     "ConvTranspose2d(4 -> 6, kernel 3x2, stride 2, padding 1, output_padding 1, groups 2, "
     "72 parameters)",
     lambda m, x: F.conv_transpose2d(x, m.weight, None, 2, 1, 1, 2), (2, 4, 3, 4)),
    (nn.Linear(3, 2, relu=True), "Linear(3 -> 2, relu, 8 parameters)",
     lambda m, x: F.linear(x, m.weight, m.bias, relu=True), (4, 3)),
    (nn.Linear(1, 1, bias=False), "Linear(1 -> 1, 1 parameter)",
     lambda m, x: F.linear(x, m.weight), (4, 1)),
    (nn.MaxPool2d(3, 2, ceil_mode=True), "MaxPool2d(kernel_size 3, stride 2, padding 0, ceil_mode)",
     lambda m, x: F.max_pool2d(x, 3, 2, ceil_mode=True), (1, 2, 6, 6)),
    (nn.AvgPool2d(2), "AvgPool2d(kernel_size 2, padding 0, count_include_pad)",
     lambda m, x: F.avg_pool2d(x, 2), (1, 2, 6, 6)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False),
     "AvgPool2d(kernel_size 3, stride 2, padding 1)",
     lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (1, 2, 6, 6)),
    (nn.AdaptiveAvgPool2d((2, 3)), "AdaptiveAvgPool2d(output_size (2, 3))",
     lambda m, x: F.adaptive_avg_pool2d(x, (2, 3)), (1, 2, 6, 7)),
    (nn.Upsample((2, 3)), "Upsample(scale (2, 3))",
     lambda m, x: F.interpolate(x, (2, 3)), (1, 2, 3, 2)),
    (nn.LocalResponseNorm(3, 0.1, 0.5, 2.0),
     "LocalResponseNorm(size 3, alpha 0.1, beta 0.5, k 2.0)",
     lambda m, x: F.local_response_norm(x, 3, 0.1, 0.5, 2.0), (2, 5, 3, 3)),
    (nn.SpatialResponseNorm(3, 0.1, 0.5, 2.0),
     "SpatialResponseNorm(size 3, alpha 0.1, beta 0.5, k 2.0)",
     lambda m, x: F.spatial_response_norm(x, 3, 0.1, 0.5, 2.0), (2, 2, 5, 5)),
    (nn.BatchNorm1d(4, 0.001, 0.2, relu=True),
     "BatchNorm1d(4 channels, eps 0.001, momentum 0.2, relu, 8 parameters, 8 in buffers)",
     lambda m, x: F.batch_norm(x, None, None, m.weight, m.bias, True, 0.2, 0.001, relu=True),
     (5, 4)),
    (nn.BatchNorm2d(4), "BatchNorm2d(4 channels, eps 1e-05, momentum 0.1, 8 parameters, "
     "8 in buffers)",
     lambda m, x: F.batch_norm(x, None, None, m.weight, m.bias, True), (5, 4, 2, 2)),
    (nn.LayerNorm((2, 3), 0.001), "LayerNorm((2, 3), eps 0.001, 12 parameters)",
     lambda m, x: F.layer_norm(x, (2, 3), m.weight, m.bias, 0.001), (4, 2, 3)),
    (nn.Dropout(0.2), "Dropout(p 0.2)", lambda m, x: F.dropout(x, 0.2), (4, 3)),
    (nn.Identity(), "Identity()", lambda m, x: x, (4, 3)),
    (nn.Flatten(), "Flatten()", lambda m, x: x.reshape(2, -1), (2, 3, 4)),
    (nn.ReLU(), "ReLU()", lambda m, x: F.relu(x), (4, 3)),
    (nn.ReLU(inplace=True), "ReLU(inplace)", lambda m, x: F.relu(x), (4, 3)),
    (nn.LeakyReLU(0.2), "LeakyReLU(slope 0.2)", lambda m, x: F.leaky_relu(x, 0.2), (4, 3)),
    (nn.ELU(0.5), "ELU(alpha 0.5)", lambda m, x: F.elu(x, 0.5), (4, 3)),
    (nn.GELU(), "GELU()", lambda m, x: F.gelu(x), (4, 3)),
    (nn.GELU("tanh"), "GELU(tanh)", lambda m, x: F.gelu(x, "tanh"), (4, 3)),
    (nn.Sigmoid(), "Sigmoid()", lambda m, x: tinynet.sigmoid(x), (4, 3)),
    (nn.Tanh(), "Tanh()", lambda m, x: tinynet.tanh(x), (4, 3)),
    (nn.Softmax(0), "Softmax(dim 0)", lambda m, x: F.softmax(x, 0), (4, 3)),
    (nn.MultiHeadAttention(6, 2), "MultiHeadAttention(2 heads, 168 parameters)",
     lambda m, x: m.out(F.attention(m.query(x), m.key(x), m.value(x), 2)), (2, 5, 6)),
    (nn.Embedding(7, 3), "Embedding(7 -> 3, 21 parameters)", None, None),
    *((loss("sum"), f"{loss.__name__}(sum)", None, None)  # test_layer_borders.py has their values
      for loss in (nn.CrossEntropyLoss, nn.NLLLoss, nn.MSELoss, nn.BCEWithLogitsLoss)),
]  # fmt: skip


@pytest.mark.parametrize("layer, text, function, shape", LAYERS, ids=[row[1] for row in LAYERS])
def test_every_layer_says_its_options_and_is_its_function(layer, text, function, shape, rng):
    assert repr(layer).splitlines()[0] == text
    if function:
        x = tinynet.tensor(rng.normal(size=shape).astype(np.float32))
        tinynet.manual_seed(3)
        y = layer(x).numpy()
        tinynet.manual_seed(3)
        np.testing.assert_array_equal(y, function(layer, x).numpy())


@pytest.mark.parametrize("layer, text, function, shape", LAYERS, ids=[row[1] for row in LAYERS])
def test_a_layer_in_use_is_the_one_that_was_trained(layer, text, function, shape, rng):
    """Options count in use as in training; only BatchNorm and Dropout do something else there."""
    if not function:
        return
    twin = copy.deepcopy(layer).eval()
    if isinstance(layer, nn.Dropout):
        function = lambda m, x: x  # noqa: E731
    elif hasattr(layer, "running_mean"):
        state = {name: rng.uniform(1, 2, part.shape) for name, part in twin._state().items()}
        twin.load_state_dict(state)

        def function(m, x):
            running = m.running_mean, m.running_var
            return F.batch_norm(x, *running, m.weight, m.bias, False, 0, m.eps, relu=m.relu)

    x = tinynet.tensor(rng.normal(size=shape).astype(np.float32))
    y = twin(x + 0)
    np.testing.assert_array_equal(y.numpy(), function(twin, x).numpy())
    assert repr(twin) == repr(layer) and not twin.training


def test_no_layer_is_left_out():
    every = {each for each in vars(nn).values() if isinstance(each, type)}
    every = {each for each in every if issubclass(each, nn.Module)}
    assert every - {nn.Module, nn.Sequential} == {type(row[0]) for row in LAYERS}


def test_repr_shows_the_tree():
    net = nn.Sequential(Norm(), nn.Sequential(nn.Linear(2, 1200)))
    net.again = net[1]
    net.top = {"net": net}
    assert repr(net).splitlines() == [
        "Sequential(3,602 parameters, 3 in buffers)",
        "  layers.0: Norm(gain (2,), mean (2,), batches (), 2 parameters, 3 in buffers)",
        "  layers.1: Sequential(3,600 parameters)",
        "    layers.0: Linear(2 -> 1200, 3,600 parameters)",
        "  top.net: Sequential, shown above",
    ]


def test_a_part_of_two_branches_is_named_and_shown_once():
    one, cut = nn.Linear(2, 3), nn.ReLU()
    net = nn.Sequential(nn.Sequential(one, cut), nn.Sequential(nn.Sequential(one), one, cut))
    assert repr(net).splitlines() == [
        "Sequential(9 parameters)",
        "  layers.0: Sequential(9 parameters)",
        "    layers.0: Linear(2 -> 3, 9 parameters)",
        "    layers.1: ReLU()",
        "  layers.1: Sequential(9 parameters)",
        "    layers.0: Sequential(9 parameters)",
        "      layers.0: Linear, shown above",
        "    layers.1: Linear, shown above",
        "    layers.2: ReLU, shown above",
    ]
    assert [name for name, _ in net.named_modules()] == [
        "", "layers.0", "layers.0.layers.0", "layers.0.layers.1", "layers.1", "layers.1.layers.0"
    ]  # fmt: skip
