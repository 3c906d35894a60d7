"""Facts that ranks compare: whatever differs is seen, and what may differ by host is not asked."""

from __future__ import annotations

import argparse
import io
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.data import ArrayDataset, Vocabulary, Windows
from tinynet.devices import cores, threads
from tinynet.errors import DataError
from tinynet.parallel.ranks import ALONE, Ranks, RanksError
from tinynet.program import Program, together
from tinynet.program.made import Table


def told_by(*facts):
    """Ranks, of which each has told its facts."""
    told = [(f"rank {r}", each) for r, each in enumerate(facts)]
    return SimpleNamespace(size=len(facts), name="rank 0", gather=lambda mine: told)


@pytest.mark.parametrize(
    "second, said",
    [
        ({"a": 1, "b": 2}, None), ({"b": 2, "a": 1}, None),
        ({"a": 1, "b": 3}, "expected b 2, as rank 0 has, got 3"),
        ({"a": 1}, "expected b 2, as rank 0 has, got None"),
        ({"a": 1, "b": 2, "c": 4}, "expected c None, as rank 0 has, got 4"),
    ],
)  # fmt: skip
def test_a_fact_of_any_rank_that_differs_is_named(second, said):
    first = {"a": 1, "b": 2}
    for number, facts in ((1, (first, second, first)), (2, (first, first, second))):
        if said is None:
            together.check_alike(told_by(*facts), lambda: first)
        else:
            with pytest.raises(RanksError, match=f"rank {number}: {said}; start all"):
                together.check_alike(told_by(*facts), lambda: first)
    together.check_alike(ALONE, lambda: 1 / 0)  # nobody to compare with


def changed(make, change):
    """Whether a change of what `make` gives changes its facts."""
    one, two = make(), make()
    assert facts_of(one) == facts_of(two)
    change(two)
    return facts_of(one) != facts_of(two)


def facts_of(what):
    return together.of_net(what) if isinstance(what, nn.Module) else together.of_data("test", what)


class Net(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Parameter(np.zeros((2, 3))), nn.Parameter(np.zeros((3, 2)))
        self.c = nn.Buffer(np.zeros(2))

    def swap(self):
        self.__dict__ = {"b": self.a, "a": self.b, "c": self.c}


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.a.data.__setitem__((1, 2), 1e-300),
        lambda net: net.c.data.__setitem__(1, 1),
        lambda net: setattr(net.a, "data", net.a.data.reshape(3, 2)),
        lambda net: setattr(net.a, "data", net.a.data.astype(np.float32)),
        lambda net: net.swap(),
        lambda net: setattr(net, "d", nn.Buffer(np.zeros(0))),
    ],
)
def test_every_part_of_a_net_is_in_its_fingerprint(change):
    assert changed(Net, change)


def pictures(in_memory=True, count=9):
    rng = np.random.default_rng(1)
    found = ArrayDataset(
        rng.integers(0, 255, (count, 4, 4, 1), np.uint8), np.arange(count) % 3, list("abc")
    )
    found.in_memory = in_memory
    return found


def test_every_part_of_a_set_of_pictures_is_in_its_fingerprint():
    for place in range(9):
        for in_memory in (True, False):  # few: all are looked at
            assert changed(
                lambda m=in_memory: pictures(m),
                lambda data, p=place: _more(data.pictures, (p, 3, 3, 0)),
            )
        assert changed(pictures, lambda data, p=place: _more(data.labels, p))
    assert changed(pictures, lambda data: data.classes.__setitem__(1, "x"))
    facts = together.of_data("training", pictures())
    assert facts["training examples"] == 9 and "the fingerprint of training data" in facts


def _more(array, place):
    array[place] += 1


def test_of_many_on_a_disk_a_few_are_looked_at_from_the_first_to_the_last(monkeypatch):
    monkeypatch.setattr(together, "SAMPLE", 5)
    seen = []
    data = pictures(in_memory=False, count=100)
    real = data.picture
    data.picture = lambda place: seen.append(place) or real(place)
    together.of_data("test", data)
    assert seen == [0, 24, 49, 74, 99]
    data.in_memory = True
    seen.clear()
    before = together.of_data("test", data)
    assert seen == list(range(100))

    def damaged(place):
        raise DataError("damaged")

    data.picture = damaged  # whoever trains on it is told
    assert together.of_data("test", data) != before


def test_every_token_is_in_the_fingerprint():
    def facts(text):
        return together.of_data("test", Windows(text, Vocabulary("abc"), 4))

    assert facts("abcabcabcabca") != facts("abcabcabcabcb")
    assert facts("abcabcabcabca") == facts("abcabcabcabca")


def test_the_layout_in_memory_is_no_fact():
    one, two = pictures(), pictures()
    two.pictures = np.asfortranarray(two.pictures)
    two.labels = np.repeat(two.labels, 2)[::2]
    assert facts_of(one) == facts_of(two)
    net, other, x = Net(), Net(), np.arange(6.0).reshape(2, 3)
    net.a.data, other.a.data = x, np.asfortranarray(x)
    assert facts_of(net) == facts_of(other)
    assert facts_of(Table((x,), 0)) == facts_of(Table((np.asfortranarray(x),), 0))
    fingerprints = [*facts_of(net).values(), facts_of(one)["the fingerprint of test data"]]
    assert {*map(len, fingerprints)} == {12}


def test_facts_of_the_program(tmp_path, monkeypatch):
    path = tmp_path / "net.py"
    path.write_text("one")
    monkeypatch.setattr(sys, "argv", [str(path)])
    first = together.of_program({"seed": 0, "batch_size": 4, "data": "here", "out": "x"})
    assert first["--seed"] == "0" and first["--batch-size"] == "4"
    assert first["tinynet"] == tinynet.__version__ and first["numpy"] == np.__version__
    assert len(first["the code's fingerprint"]) == 12
    own = {"device": 1, "out": 2, "threads": 3, "workers": 4, "data": 5}
    assert together.of_program({"seed": 0, "batch_size": 4, **own}) == first
    path.write_text("two")
    assert together.of_program({"seed": 0, "batch_size": 4}) != first
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "gone.py")])
    assert together.of_program({}).keys() <= first.keys()


def test_a_host_has_its_own_data_devices_and_workers():
    args = argparse.Namespace(data="here", device=None, workers=0, seed=5)
    assert together.of_host(SimpleNamespace(rank=1), args) == {"data": "here", "workers": 0}
    assert together.of_host(SimpleNamespace(rank=0), args) == {}
    assert together.of_host(SimpleNamespace(rank=1), argparse.Namespace()) == {}


@pytest.mark.parametrize("given", [False, True])
def test_cores_are_shared_by_the_ranks_that_may_use_the_same(given, monkeypatch):
    shared, threads = [], []
    monkeypatch.setattr(cores, "share", shared.append)
    monkeypatch.setattr(tinynet, "set_num_threads", threads.append)
    monkeypatch.setattr(cores, "available_cores", lambda: 3)
    monkeypatch.delenv("TINYNET_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("TINYNET_NUM_THREADS", "1")
    mine = "a", cores.cores()
    others = [mine, ("b", cores.cores()), mine, ("a", "other cores"), mine]
    together.share_cores(SimpleNamespace(host="a", gather=lambda value: others))
    assert shared == [3] and threads == ([] if given else [3])


@pytest.mark.parametrize("size", [1, 2])
def test_the_threads_that_are_asked_for_are_those_of_each_rank(size, told, monkeypatch):
    """Whatever its part of the cores is."""

    class Same(Ranks):
        def gather(self, value):
            return [value] * self.size

    before, seen, ranks = threads.get_num_threads(), [], Same()
    ranks.size = size
    monkeypatch.delenv("TINYNET_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "share", lambda count: None)
    monkeypatch.setattr(together, "started", lambda: ranks)
    monkeypatch.setattr(Program, "train", lambda *_: seen.append(threads.get_num_threads()) or 0)
    try:
        assert told.run("--out", "a", "--threads", before + 5) == 0
    finally:
        tinynet.set_num_threads(before)
    assert seen == [before + 5]


def test_what_one_rank_does_alone(monkeypatch, capsys):
    ranks = SimpleNamespace(size=2, name="rank 0", host="a", gather=lambda value: [value] * 2)
    monkeypatch.setattr(together, "share_cores", lambda ranks: None)
    for name in ("predict", "export", "import"):
        with pytest.raises(ValueError, match=f"--{name} is for one rank"):
            together.begin(ranks, argparse.Namespace(**{name: ["a"]}))
    together.begin(ranks, argparse.Namespace(**{"import": "a", "epochs": 3}))
    together.begin(ranks, argparse.Namespace(predict=None, eval=["a"]))
    assert capsys.readouterr().out.count("2 ranks, 2 on a; each computes its share") == 2


def test_only_rank_0_is_heard(capsys):
    """And its warnings alone; afterwards all are as they were."""
    logger, found = logging.getLogger("tinynet"), []
    before = logger.level
    for rank in (0, 1):
        with together.heard(SimpleNamespace(rank=rank, size=2)):
            print(f"from {rank}")
            found.append(logger.isEnabledFor(logging.WARNING))
    assert capsys.readouterr().out == "from 0\n"
    assert found == [True, False] and logger.level == before


def test_what_nothing_catches_ends_all_ranks(monkeypatch):
    ended, written = [], io.BytesIO()

    def abort(status):  # nothing comes after it, not even what waits to be written
        ended.append((status, written.getvalue().decode()))

    held = io.TextIOWrapper(io.BufferedWriter(written))
    monkeypatch.setattr(sys, "stderr", held)
    with together.heard(SimpleNamespace(rank=0, size=2, name="rank 0 on a", abort=abort)):
        raise KeyError("lost")
    ranks = SimpleNamespace(failures=lambda text: ([text], False), abort=abort)
    together.fail(ranks, "the end", lambda line: print(line, file=sys.stderr))
    (status, said), last = ended
    assert status == 1 and said.startswith("rank 0 on a:\nTraceback") and "KeyError" in said
    assert last == (2, said + "the end\n")
    with pytest.raises(KeyError), together.heard(ALONE):
        raise KeyError("lost")


@pytest.mark.parametrize("all_of_them", [True, False])
def test_a_failure_is_told_once_and_ends_the_others(all_of_them):
    done = []
    ranks = SimpleNamespace(failures=lambda text: ([text, "b"], all_of_them), abort=done.append)
    assert together.fail(ranks, "a", done.append) == 2
    assert done == ["a", "b"] + [2] * (not all_of_them)


def test_a_mistake_that_all_ranks_find_is_told_once(capsys):
    told = []
    ranks = SimpleNamespace(
        size=2, failures=lambda text: (told.append(text) or [text], True), rank=0
    )
    parser = argparse.ArgumentParser(prog="net.py")
    parser.add_argument("--n", type=int)
    assert together.parsed(ranks, parser.parse_args, ["--n", "3"]).n == 3
    with pytest.raises(SystemExit) as left:
        together.parsed(ranks, parser.parse_args, ["--n", "x"])
    assert left.value.code == 2 and len(told) == 1 and "invalid int value: 'x'" in told[0]
    assert capsys.readouterr().err.count("invalid int") == 1
    with pytest.raises(SystemExit) as left:
        together.parsed(ranks, parser.parse_args, ["--help"])
    assert not left.value.code and len(told) == 1


def test_a_program_for_one_rank(monkeypatch, capsys):
    ended = []
    ranks = SimpleNamespace(size=2, failures=lambda text: ([text], True), abort=ended.append)
    monkeypatch.setattr(together, "start", lambda: ranks)
    monkeypatch.setattr(sys, "argv", [str(Path("x") / "report.py")])
    with pytest.raises(SystemExit) as left:
        together.alone()
    assert left.value.code == 2
    assert "report.py: error: expected one rank, got 2" in capsys.readouterr().err

    def fails():
        raise RanksError("no MPI")

    monkeypatch.setattr(together, "start", fails)
    with pytest.raises(SystemExit) as left:
        together.started()
    assert left.value.code == 2 and capsys.readouterr().err == "report.py: error: no MPI\n"
