"""What people know from torch and NumPy, is not here, and what to write in its place.

A line of torch that does not run is answered by the line that does: `x.add_(1)` by "a tensor has no
'add_'; write x = x + y; a leaf: x.data += y".
"""

from __future__ import annotations

from typing import Any

import numpy as np

TENSOR = {
    "add_": "x = x + y; a leaf: x.data += y", "sub_": "x = x - y; a leaf: x.data -= y",
    "mul_": "x = x * y; a leaf: x.data *= y", "div_": "x = x / y; a leaf: x.data /= y",
    "copy_": "x.data = y.data.copy()", "fill_": "x.data[...] = value",
    "zero_": "x.data[...] = 0; for a gradient: w.grad = None", "uniform_": "tinynet.rand(shape)",
    "normal_": "tinynet.randn(shape)", "clamp": "x.clip(min=..., max=...)",
    "clamp_": "x = x.clip(min=..., max=...)", "detach_": "x = x.detach()",
    "t": "x.T", "mT": "x.permute(...)", "mm": "x @ y", "bmm": "x @ y", "dot": "x @ y",
    "matmul": "x @ y", "mv": "x @ y", "add": "x + y", "sub": "x - y", "mul": "x * y",
    "div": "x / y", "neg": "-x", "square": "x * x", "reciprocal": "1 / x", "rsqrt": "x ** -0.5",
    "relu": "tinynet.relu(x)", "sigmoid": "tinynet.sigmoid(x)", "tanh": "tinynet.tanh(x)",
    "softmax": "tinynet.softmax(x, dim)", "log_softmax": "tinynet.log_softmax(x, dim)",
    "logsumexp": "x.exp().sum(dim).log()", "amax": "x.max(axis=...)", "amin": "x.min(axis=...)",
    "double": "x.astype('float64')", "half": "x.astype('float16')", "int": "x.astype('int32')",
    "byte": "x.astype('uint8')", "bool": "x != 0", "type": "x.astype(dtype)",
    "contiguous": "x, it needs no other memory", "is_cuda": "x.device",
    "expand": "x + tinynet.zeros(shape)", "expand_as": "x + tinynet.zeros_like(y)",
    "repeat": "tinynet.cat([x, x], dim)", "swapaxes": "x.permute(...)", "movedim": "x.permute(...)",
    "chunk": "x.split(sizes, dim)", "unbind": "list(x)", "gather": "x[rows, columns]",
    "index_select": "x[indices]", "masked_select": "x[mask]",
    "masked_fill": "tinynet.where(mask, value, x)", "is_leaf": "x.node is None",
    "grad_fn": "x.node", "retain_grad": "a leaf; only a leaf keeps .grad",
    "register_hook": "tinynet.tracing()", "copy": "x.clone()",
    "nonzero": "numpy.argwhere(x.numpy())", "isnan": "x != x", "equal": "bool((x == y).all())",
    "eq": "x == y", "ne": "x != y", "gt": "x > y", "lt": "x < y", "ge": "x >= y", "le": "x <= y",
    "logical_and": "x & y", "logical_or": "x | y", "logical_not": "~x",
    "view_as": "x.view(*y.shape)", "reshape_as": "x.reshape(*y.shape)", "type_as": "x.to(y.dtype)",
    "new_zeros": "tinynet.zeros", "new_tensor": "tinynet.tensor", "tanh_": "tinynet.tanh(x)",
    "relu_": "tinynet.relu(x)", "topk": "numpy.argsort(-x.numpy())",
    "tobytes": "x.numpy().tobytes()", "ravel": "x.flatten()",
}  # fmt: skip

TINYNET = {
    "allclose": "numpy.allclose(x, y)", "equal": "bool((x == y).all())", "mm": "x @ y",
    "bmm": "x @ y", "dot": "x @ y", "mv": "x @ y", "isnan": "x != x", "eq": "x == y",
    "ne": "x != y", "gt": "x > y", "lt": "x < y", "ge": "x >= y", "le": "x <= y", "neg": "-x",
    "square": "x * x", "tensordot": "tinynet.einsum", "outer": "x.unsqueeze(1) * y",
    "nonzero": "numpy.argwhere(x.numpy())", "t": "x.T", "topk": "numpy.argsort(-x.numpy())",
    "logsumexp": "x.exp().sum(dim).log()", "numel": "x.numel()",
    "cuda": "tinynet.device('cuda:0'), which raises DeviceUnavailableError without a GPU",
    "utils": "a loop over x.split(batch_size), or tinynet.data", "linalg": "x.norm(), numpy.linalg",
    "autograd": "y.backward(), then x.grad; tinynet.Function", "is_tensor": "isinstance(x, Tensor)",
    "FloatTensor": "tinynet.tensor(values)", "LongTensor": "tinynet.tensor(values, tinynet.int64)",
    "as_tensor": "tinynet.tensor(values)", "from_file": "tinynet.load(path)",
    "empty": "tinynet.zeros(shape)", "empty_like": "tinynet.zeros_like(x)",
    "full_like": "tinynet.full(x.shape, value)", "rand_like": "tinynet.rand(x.shape)",
    "randn_like": "tinynet.randn(x.shape)", "normal": "mean + std * tinynet.randn(shape)",
    "bernoulli": "tinynet.rand(shape) < p", "chunk": "tinynet.split(x, sizes, dim)",
    "hstack": "tinynet.cat([x, y], dim)", "vstack": "tinynet.cat([x, y], dim)",
    "concatenate": "tinynet.cat([x, y], dim)", "set_default_device": "device=... with each tensor",
    "set_grad_enabled": "tinynet.no_grad()", "inference_mode": "tinynet.no_grad()",
    "enable_grad": "nothing: the tape records, but inside tinynet.no_grad()",
    "no_grad_": "tinynet.no_grad()",
}  # fmt: skip

NN = {
    "functional": "tinynet.functional", "utils": "tinynet.optim.clip_grad_norm",
    "ModuleList": "self.layers = [layer, ...]: modules in lists are found",
    "ModuleDict": "self.layers = {name: layer}: modules in dicts are found",
    "ParameterList": "self.weights = [nn.Parameter(...), ...]: parameters in lists are found",
    "MultiheadAttention": "nn.MultiHeadAttention",
    "LogSoftmax": "tinynet.log_softmax(x, dim)", "L1Loss": "(x - y).abs().mean()",
    "BCELoss": "nn.BCEWithLogitsLoss(), of what goes into the sigmoid",
    "SiLU": "x * tinynet.sigmoid(x)",
    "Dropout2d": "nn.Dropout(p)", "Unflatten": "x.reshape(...)",
    "DataParallel": "a tower on each device, as in examples/alexnet.py",
}  # fmt: skip

FUNCTIONAL = {
    "one_hot": "tinynet.eye(classes)[labels]", "l1_loss": "(x - y).abs().mean()",
    "normalize": "x / x.norm(dim=1, keepdim=True)",
    "silu": "x * F.sigmoid(x)", "softplus": "(1 + x.exp()).log()",
    "binary_cross_entropy": "F.bce_with_logits, of what goes into the sigmoid",
    "binary_cross_entropy_with_logits": "F.bce_with_logits(x, y)",
    "scaled_dot_product_attention": "F.attention", "logsigmoid": "F.log_softmax, F.bce_with_logits",
}  # fmt: skip

MODULE = {
    "cuda": "net.to('cuda:0')", "cpu": "net.to('cpu')", "float": "nothing: parameters are float32",
    "double": "p.data = p.data.astype('float64') for each p of net.parameters()",
    "half": "nothing: there is no training in float16",
    "requires_grad_": "p.requires_grad = False for each p of net.parameters()",
    "children": "[child for name, child in net.named_children()]",
    "add_module": "setattr(net, name, module)", "register_module": "setattr(net, name, module)",
    "register_parameter": "self.name = nn.Parameter(values)",
    "register_buffer": "self.name = nn.Buffer(values)", "get_parameter": "net.state_dict()[name]",
    "register_forward_hook": "tinynet.tracing()",
    "register_full_backward_hook": "tinynet.tracing()",
}  # fmt: skip

INIT = {
    "normal_": "w.data = nn.init.normal(sigma)(w.shape)",
    "xavier_uniform_": "w.data = nn.init.xavier()(w.shape)",
    "kaiming_normal_": "w.data = nn.init.he()(w.shape)", "zeros_": "w.data[...] = 0",
    "ones_": "w.data[...] = 1", "constant_": "w.data[...] = value",
}  # fmt: skip

SCHEDULES = {
    "StepLR": "MultiStep", "MultiStepLR": "MultiStep", "CosineAnnealingLR": "Cosine",
    "ReduceLROnPlateau": "DivideOnPlateau", "LinearLR": "WarmUp", "ConstantLR": "Constant",
}  # fmt: skip


def missing(owner: str, name: str, known: dict[str, str], array: str = "", obj: Any = None) -> Any:
    """The AttributeError for a name that `owner` has not, with what to write.

    array: how a tensor becomes an array for NumPy's function of this name, if there is one.
    """
    write = known.get(name, "")
    if not write and array and not name.startswith("_") and hasattr(np, name):
        found = getattr(np, name)
        called = callable(found) and not isinstance(found, type)  # no dtype, and not numpy.pi
        write = f"numpy.{name}{array}, which is not on the tape" if called else f"numpy.{name}"
    instead = f"; write {write}" if write else ""
    return AttributeError(f"{owner} has no {name!r}{instead}", name=name, obj=obj)
