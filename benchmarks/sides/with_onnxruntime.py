"""ONNX Runtime's side: AlexNet's forward as an ONNX graph, run with its own optimisations and as
many threads as it likes.

One tower with group=2, as PyTorch's side. LRN acts over each tower's own channels: (N, C, H, W) as
(2 N, C/2, H, W), which costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from sides import CONFIGS, GROUPS, LRN, NORMALISED, POOLED, random_batch, random_weights

# Its convolutions know no float64, so the nets are compared in float32.
DTYPE, TOLERANCE = np.float32, 1e-5


def graph(preset: str, lrn: bool, batch: int) -> bytes:
    config, nodes = CONFIGS[preset], []
    arrays = dict(random_weights(preset))

    def node(kind: str, *inputs: str, **options: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{kind}{len(nodes)}"], **options))
        return nodes[-1].output[0]

    def constant(*values: int) -> str:
        name = "x".join(map(str, values))
        arrays[name] = np.array(values, np.int64)
        return name

    x = "pictures"
    if config.extra:
        x = node("Pad", x, constant(0, 0, 0, 0, 0, 0, config.extra, config.extra))
    for i, groups in enumerate(GROUPS, start=1):
        stride, padding = config.conv1 if i == 1 else (1, config.sides[i - 1] // 2)
        x = node(
            "Conv", x, f"conv{i}.weight", f"conv{i}.bias", group=groups,
            strides=[stride] * 2, pads=[padding] * 4,
        )  # fmt: skip
        x = node("Relu", x)
        if i in NORMALISED and lrn:
            C, side = config.kernels[i - 1], config.outputs[i - 1]
            x = node("Reshape", x, constant(2 * batch, C // 2, side, side))
            x = node(
                "LRN", x, size=LRN["size"], alpha=LRN["alpha"], beta=LRN["beta"], bias=LRN["k"]
            )
            x = node("Reshape", x, constant(batch, C, side, side))
        if i in POOLED:
            x = node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = node("Flatten", x)
    for name in ("fc6", "fc7"):
        x = node("Relu", node("Gemm", x, f"{name}.weight", f"{name}.bias", transB=1))
    node("Gemm", x, "fc8.weight", "fc8.bias", transB=1)
    shape = batch, config.channels, config.size, config.size
    whole = helper.make_graph(
        nodes,
        "AlexNet",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(whole, opset_imports=opset, ir_version=8).SerializeToString()


class Net:
    def __init__(self, preset: str, lrn: bool):
        self.options = preset, lrn

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """ "logits" alone."""
        return {"logits": session(*self.options, len(x)).run(None, {"pictures": x})[0]}


def session(preset: str, lrn: bool, batch: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        graph(preset, lrn, batch), providers=["CPUExecutionProvider"]
    )


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    if task != "forward":
        raise ValueError(f"ONNX Runtime's side: expected the task 'forward', got {task!r}")
    net, (pictures, _) = session(preset, lrn, batch), random_batch(preset, batch)
    return lambda: net.run(None, {"pictures": pictures})


def about() -> str:
    return f"ONNX Runtime {onnxruntime.__version__}, CPU, its own threads"
