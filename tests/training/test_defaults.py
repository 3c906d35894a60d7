"""What is taken where nothing is said: the defaults that the documentation and old runs rely on."""

from __future__ import annotations

import inspect

import pytest

from tinynet.parallel.ranks import ALONE
from tinynet.training import batch_size, console, evaluate, features, inputs, metrics, plots, report
from tinynet.training import trainer as loop
from tinynet.training.checkpoint import Checkpoint, save_arrays
from tinynet.training.drawings import picture_rows
from tinynet.training.measure import Measure
from tinynet.training.objective import Objective
from tinynet.training.task import Classification, Task

DEFAULTS = [
    (
        loop.Trainer,
        dict(schedule=None, story=(), keep=3, checkpoint_batches=None, checkpoint_minutes=10.0,
             max_minutes=None, limit_batches=None, skip_damaged=0, log_every=None, stuck_after=500,
             advice=""),
    ),
    (inputs.Inputs, dict(scale=1.0, second_device=None, border=0, noise_scale=1.0)),
    (Classification, dict(label_smoothing=0.0, auxiliary=0.0)),
    (Objective, dict(best_by="loss", unit="examples", glimpse=None, undivided="")),
    (Measure, dict(unit="", digits=2)),
    (evaluate.evaluate, dict(views=1, ranks=ALONE)),
    (evaluate.probabilities, dict(views=1)),
    (features.features, dict(layer="", ranks=ALONE)),
    (features.nearest, dict(count=6)),
    (features.most_exciting, dict(count=9)),
    (picture_rows, dict(zoom=2, gap=2)),
    (plots.contact_sheet, dict(side=128)),
    (plots.draw_patches, dict(groups=1)),
    (plots.bars, dict(side=128)),
    (metrics.MetricsLog, dict(size=0)),
    (metrics.write_config, dict(data=None, kernels=(), resumed=False, ranks=1)),
    (save_arrays, dict(state=None)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "expected"), DEFAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_defaults(function, expected):
    parameters = inspect.signature(function).parameters.values()
    found = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    assert found == expected


def test_numbers_that_runs_go_by():
    assert (loop.LINES, evaluate.SHOWN, batch_size.SHARE) == (20, 12, 0.5)
    assert (console.QUIET, report.MANY) == (60.0, 12)


def test_what_a_task_is_if_it_does_not_say():
    told = vars(Task)
    names = "measures", "measured", "best_by", "unit", "chance", "undivided"
    assert [told[name] for name in names] == [{}, (), "loss", "examples", None, ""]
    assert (Classification.best_by, Classification.unit) == ("top1_error", "pictures")
    task = Task()
    task.count = lambda batch: 7
    assert task.weight("batch") == 7 and task.damaged("batch") == {} and task.arrays() == {}
    batches = iter("abc")
    assert task.ahead(batches) is batches


def test_two_checkpoints_share_nothing():
    one, other = Checkpoint({}), Checkpoint({})
    for name in ("optimizer", "arrays", "state"):
        assert getattr(one, name) == {} and getattr(one, name) is not getattr(other, name)
