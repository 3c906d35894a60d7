"""A tiny run for tests: pictures of few pixels, a net of two layers."""

from __future__ import annotations

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import nn
from tinynet.data import ArrayDataset, Loader, mean_picture
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import MultiStep
from tinynet.training.inputs import Inputs
from tinynet.training.task import Classification
from tinynet.training.trainer import Trainer


class Net(nn.Module):
    """Convolution, ReLU, dropout, linear: small, yet with all that must survive a resume."""

    def __init__(self, classes=4):
        normal = nn.init.normal(0.1)
        self.conv = nn.Conv2d(1, 4, 3, weight_init=normal)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 6 * 6, classes, weight_init=normal)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.fc(self.dropout(x.flatten(1)))


def pictures(count=96, classes=4, seed=5):
    """Grey 8 x 8 pictures: one bright quarter each, and noise; easy, but not at once."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    found = rng.integers(0, 160, (count, 8, 8, 1))
    for picture, label in zip(found, labels, strict=True):
        top, left = divmod(label, 2)
        picture[4 * top : 4 * top + 4, 4 * left : 4 * left + 4] += 90
    return ArrayDataset(found.astype(np.uint8), labels, [f"class {k}" for k in range(classes)])


def make_trainer(folder, *, epochs=3, lr=0.05, device="cpu", seed=3, model=None, **options):
    """A Trainer in `folder` (made if need be): six batches of 16 an epoch."""
    folder.mkdir(exist_ok=True, parents=True)
    train, test = pictures(), pictures(40, seed=6)
    tinynet.manual_seed(seed)
    model = (model or Net)().to(device)
    optimizer = SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    return Trainer(
        model,
        optimizer,
        Loader(train, 16, crop=8, train=True, seed=seed, flip=False),
        Loader(test, 16, crop=8, train=False),
        Classification(Inputs(device, mean_picture(train), 8, scale=0.01), train.classes),
        folder,
        epochs=epochs,
        about={"preset": "tiny", "classes": train.classes},
        **{"schedule": MultiStep(optimizer, [1, 2]), "log_every": 4, **options},
    )
