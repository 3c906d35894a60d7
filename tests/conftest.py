"""Seeds, and which tests run.

Every run draws its own seed and prints it in the header; `pytest --seed N` repeats a run. A test
takes its randomness from the fixture `rng`, which depends on the seed and the test's name alone, so
that one test alone can be repeated. Tests marked `slow` run only when markers are asked for:
`pytest -m "slow or not slow"` runs everything.
"""

from __future__ import annotations

import io
import random
import signal
import zlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
from PIL import Image

import tinynet

hypothesis.settings.register_profile(
    "tinynet",
    deadline=None,
    max_examples=40,
    database=None,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, help="seed of all random numbers in the tests (default: a random one)"
    )
    parser.addoption(
        "--times", type=int, help="how often a slow test damages or kills (default: its own number)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist: the seed that was printed
        config.option.seed = config.workerinput["seed"]
    elif config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(2**31)
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(config.option.seed)
    hypothesis.settings.load_profile(config.getoption("hypothesis_profile") or "tinynet")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["seed"] = node.config.option.seed


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        reporter is not None
    ):  # a worker of pytest-xdist has none. A report header would not be shown with -q.
        reporter.write_line(
            f"seed: {session.config.option.seed} (repeat with --seed {session.config.option.seed})"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    gpu = [item for item in items if item.get_closest_marker("gpu")]
    if gpu:
        reason = _no_gpu()
        for item in gpu:
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def _no_gpu() -> str:
    """Why there is no GPU to test on; empty if there is one."""
    try:
        tinynet.device("cuda")
    except tinynet.DeviceUnavailableError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _seeds(request: pytest.FixtureRequest) -> None:
    """tinynet's own randomness (first weights, dropout masks) is that of the test as well."""
    tinynet.manual_seed(_test_seed(request))


@pytest.fixture(autouse=True, scope="session")
def signals_of_a_terminal() -> None:
    """Who starts the tests in the background (nohup, CI) may have a terminal's signals ignored, and
    every program that a test starts would inherit that: it could not be stopped."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A NumPy generator that depends on `--seed` and the test's name."""
    return np.random.default_rng(_test_seed(request))


def _test_seed(request: pytest.FixtureRequest) -> int:
    return request.config.option.seed * 2**32 + zlib.crc32(request.node.nodeid.encode())


@pytest.fixture(scope="module")
def quick_pictures() -> Iterator[None]:
    """The curves and the confusion that a run draws at its end are one white point.

    Eight figures of matplotlib take a second; tests/training/test_plots.py and
    test_report_page.py look at real ones.
    """
    from tinynet.program import pictures
    from tinynet.training import report

    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), "white").save(buffer, "PNG")
    point = buffer.getvalue()
    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((report, "draw_curves"), (pictures, "draw_confusion")):
            patch.setattr(place, name, lambda *arguments: arguments[-1].write_bytes(point))
        patch.setattr(report, "curves", lambda *arguments: [point])
        patch.setattr(report, "confusion_picture", lambda *arguments: point)
        yield


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How often a test damages or kills: its parameter; for a slow one `--times`, if given."""
    times = request.config.option.times if request.node.get_closest_marker("slow") else None
    return times or request.param
