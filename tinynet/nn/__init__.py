"""Networks: Module, Parameter, layers, initialisers."""

from typing import TYPE_CHECKING

from tinynet.instead import NN, missing
from tinynet.nn import init
from tinynet.nn.activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from tinynet.nn.attention import Embedding, MultiHeadAttention
from tinynet.nn.layers import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    BCEWithLogitsLoss,
    Conv2d,
    ConvTranspose2d,
    CrossEntropyLoss,
    Dropout,
    Flatten,
    Identity,
    LayerNorm,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    MSELoss,
    NLLLoss,
    Sequential,
    SpatialResponseNorm,
    Upsample,
)
from tinynet.nn.module import Buffer, Module, Parameter

__all__ = [
    "AvgPool2d",
    "NLLLoss",
    "MSELoss",
    "Identity",
    "BCEWithLogitsLoss",
    "BatchNorm2d",
    "BatchNorm1d",
    "AdaptiveAvgPool2d",
    "Buffer",
    "Conv2d",
    "ConvTranspose2d",
    "CrossEntropyLoss",
    "Dropout",
    "ELU",
    "Embedding",
    "Flatten",
    "GELU",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SpatialResponseNorm",
    "Tanh",
    "Upsample",
    "init",
]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name):
        """Python comes here for what is not there."""
        raise missing("tinynet.nn", name, NN)
