"""Optimisers, a limit on the gradients' norm, and schedules of the learning rate."""

from tinynet.optim import adaptive, lr_scheduler
from tinynet.optim.adaptive import *
from tinynet.optim.clip import clip_grad_norm
from tinynet.optim.optimizer import Optimizer
from tinynet.optim.sgd import SGD

__all__ = ["SGD", "Optimizer", "clip_grad_norm", "lr_scheduler"]
__all__ += adaptive.__all__
