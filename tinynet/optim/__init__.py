"""Optimisers and schedules of the learning rate."""

from tinynet.optim import lr_scheduler
from tinynet.optim.sgd import SGD

__all__ = ["SGD", "lr_scheduler"]
