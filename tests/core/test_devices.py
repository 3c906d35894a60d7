"""Devices, threads, randomness, the profiler."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import random
from tinynet.devices import base, cores, threads
from tinynet.devices.cores import available_cores
from tinynet.devices.layout import memory_order
from tinynet.devices.scratch import Scratch
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.kernels.dropout import dropout_mask_definition

# Devices


def test_a_device_equals_its_name_and_has_its_hash():
    cpu, one = tinynet.device("cpu"), tinynet.device("cpu:1")
    assert cpu == "cpu" and "cpu" == cpu and hash(cpu) == hash("cpu") and cpu in {"cpu"}
    assert one == "cpu:1" and hash(one) == hash("cpu:1") and {one: 3}["cpu:1"] == 3
    assert cpu != "cpu:1" and one != "cpu" and one != "cuda:0" and len({cpu, one, "cpu"}) == 2
    assert cpu != one and cpu != "gpu" and cpu != 3 and cpu is tinynet.device("cpu:0")
    assert (one.name, one.kind, one.index, str(one), repr(one)) == ("cpu:1", "cpu", 1) + (
        "cpu:1",
    ) * 2
    assert tinynet.device(one) is one is tinynet.device("cpu:1") and cpu.xp is np
    assert copy.deepcopy(one) is one and pickle.loads(pickle.dumps(one)) is one
    for spelling, name in (("cpu:0", "cpu"), ("cpu:01", "cpu:1"), ("cuda", "cuda:0")):
        for device in (cpu, one):
            with pytest.raises(ValueError) as caught:
                device == spelling  # noqa: B015
            assert f"expected '{name}'" in str(caught.value)
            assert f"got '{spelling}'" in str(caught.value)


@pytest.mark.parametrize("name", ["gpu0", "cpu:", "cpu:-1", "cuda:x", "", "CPU", "cpu:0 ", 3, None])
def test_names_that_are_none(name):
    with pytest.raises(
        ValueError, match=r"device: expected 'cpu', 'cpu:N', 'cuda' or 'cuda:N', got"
    ):
        tinynet.device(name)


def test_a_device_that_two_threads_ask_for_at_once_is_one(monkeypatch):
    """The second one comes while the first one's is being made."""
    load, found = base._loads["cpu"], []

    def make(*arguments):
        if not found:
            found.append(None)
            found.append(tinynet.device("cpu:77"))
        return load()[0](*arguments)

    monkeypatch.setattr(base, "_devices", {})
    monkeypatch.setitem(base._loads, "cpu", lambda: (make, load()[1]))
    assert tinynet.device("cpu:77") is found[1] is tinynet.device("cpu:77")


def test_the_order_of_axes_in_memory():
    """From the longest step to the shortest, whatever their signs; those of one length as they
    come. And the way back.
    """
    a = np.zeros((2, 3, 4))
    for x in (
        a,
        a.T,
        a[:, ::-1],
        a[::-1].transpose(1, 2, 0),
        np.broadcast_to(a[:1, :, :1], a.shape),
    ):
        order, back = memory_order(x.strides)
        assert list(order) == sorted(range(3), key=lambda axis: (-abs(x.strides[axis]), axis))
        assert x.transpose(order).transpose(back).strides == x.strides


def test_copies_between_devices_keep_layout_and_share_nothing(rng):
    one = tinynet.device("cpu:1")
    array = layouts(rng, rng.normal(size=(2, 3, 4)))
    dense = array.copy(order="K")
    for copy_ in (
        one.upload(dense),
        one.download(dense),
        one.copy_from(dense, tinynet.device("cpu")),
    ):
        np.testing.assert_array_equal(copy_, dense)
        assert copy_.strides == dense.strides and not np.shares_memory(copy_, dense)
    with one.activate("nothing"):
        assert one.empty((3, 4), np.float32).shape == (3, 4)
    one.synchronize()


def test_to_is_the_identity_and_so_is_its_adjoint(rng):
    x = tinynet.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    y = x.to("cpu:1")
    assert y.device == "cpu:1" and not np.shares_memory(x.data, y.data)
    dy = rng.normal(size=(2, 3))
    y.backward(dy)
    assert x.grad.device == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), dy)
    assert x.to("cpu") is x and x.to(tinynet.device("cpu:0")) is x


def test_an_operation_on_the_cpu_activates_nothing(monkeypatch):
    """A quarter of the time of a small one."""
    x = tinynet.tensor([1.0, 2.0])
    monkeypatch.setattr(type(x.device), "activate", None)
    assert (x + x).tolist() == [2, 4]


def test_a_target_on_another_device_is_refused():
    """Of tensors: tests/core/test_every_case.py."""
    target = tinynet.tensor([0, 1], device="cpu:1")
    with pytest.raises(RuntimeError, match="CrossEntropy: .* on cpu, .* on cpu:1; move") as caught:
        F.cross_entropy(tinynet.ones(2, 2), target)
    assert isinstance(caught.value, tinynet.DeviceMismatchError)


def test_cuda_without_cupy_says_what_to_do():
    code = (
        "import sys; sys.modules['cupy'] = None\n"
        "import tinynet\n"
        "try: tinynet.device('cuda')\n"
        "except tinynet.DeviceUnavailableError as e: print(e)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.count("\n") == 1 and "pip install" in run.stdout.lower(), (
        run.stdout + run.stderr
    )


# Threads


@pytest.fixture
def any_threads():
    before = tinynet.get_num_threads()
    yield
    tinynet.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_piece_runs_once(count, any_threads):
    tinynet.set_num_threads(count)
    assert tinynet.get_num_threads() == count
    done, names, second = [], set(), threading.Event()

    def piece(i):
        names.add(threading.get_ident())
        if len(names) == min(count, 2):
            second.set()
        second.wait(60)  # a busy machine may start the helpers late
        done.append(i)

    threads.parallel_for(piece, range(40))
    assert sorted(done) == list(range(40))
    assert min(count, 2) <= len(names) <= count
    threads.parallel_for(piece, [])
    threads.parallel_for(piece, iter([40]))
    assert len(done) == 41


@pytest.mark.parametrize("count", [2, 3])
def test_each_thread_begins_with_its_own_pieces_and_goes_on_with_the_others(count, any_threads):
    tinynet.set_num_threads(count)
    firsts, all_, others = {}, threading.Barrier(count, timeout=60), threading.Semaphore(0)

    def piece(i):
        if firsts.setdefault(threading.get_ident(), i) == i:
            all_.wait()
        if i == 0:  # until the helpers have done all else
            assert all(others.acquire(timeout=60) for _ in range(3 * count - 1))
        others.release()

    threads.parallel_for(piece, range(3 * count))
    assert firsts[threading.get_ident()] == 0
    assert sorted(firsts.values()) == [*range(0, 3 * count, 3)]


@pytest.mark.parametrize(
    "multiplications", [0, threads.ENOUGH - 1, threads.ENOUGH, 9 * threads.ENOUGH]
)
def test_jobs_give_their_results_and_hand_over_if_there_is_enough(
    multiplications, any_threads, monkeypatch
):
    tinynet.set_num_threads(2)
    done, where, second, handed = [], set(), threading.Event(), []
    enough, help = multiplications >= threads.ENOUGH, threads._Team.help
    monkeypatch.setattr(threads._Team, "help", lambda *a: handed.append(a) or help(*a))

    def work(i):
        where.add(threading.get_ident())
        if len(where) == 2:
            second.set()
        if handed:
            second.wait(60)  # a busy machine may start the helper late
        done.append(i)

    jobs = [
        threads.Job(work, range(first, first + 5), lambda first=first: (first, sorted(done)))
        for first in (0, 5)
    ]
    given = threads.run_jobs([jobs[0], threads.NO_JOB, jobs[1]], multiplications)
    assert given == [(0, [*range(10)]), None, (5, [*range(10)])]
    assert len(where) == (2 if enough else 1) and len(handed) == enough


class Impatient:
    """A lock or a queue whose time is up at once: whoever sets a time to wait gives up."""

    def __init__(self, make):
        inner = make()
        self.release, self.put = getattr(inner, "release", None), getattr(inner, "put", None)
        self.acquire = lambda blocking=True, timeout=-1: inner.acquire(blocking and timeout == -1)
        self.get = lambda block=True, timeout=None: inner.get(block and timeout is None)


def test_a_piece_may_take_as_long_as_it_likes_and_so_may_the_next_work(any_threads, monkeypatch):
    """No wait ends before there is what it waits for: not that for the helpers, each of them, and
    not the helpers' own for work.
    """
    lock, queue, main = threading.RLock, threads.SimpleQueue, threading.get_ident()
    monkeypatch.setattr(threads, "SimpleQueue", lambda: Impatient(queue))
    tinynet.set_num_threads(4)
    for _ in range(2):
        done, together = [], threading.Barrier(4, timeout=60)

        def piece(i, done=done, together=together):
            together.wait()
            if threading.get_ident() != main:
                time.sleep(0.01 * i)
            done.append(i)

        with monkeypatch.context() as patched:
            patched.setattr(threading, "RLock", lambda: Impatient(lock))
            threads.parallel_for(piece, range(4))
        assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 3])
def test_an_exception_of_a_piece_is_raised_and_stops_the_others(count, any_threads):
    tinynet.set_num_threads(count)
    done = []

    def piece(i):
        if i == 5:
            raise KeyError("five")
        time.sleep(0.001)
        done.append(i)

    for _ in range(3):  # and the pool of threads goes on working
        done.clear()
        with pytest.raises(KeyError, match="five"):
            threads.parallel_for(piece, range(1000))
        assert len(done) < 500


def test_an_exception_in_a_helper_is_raised(any_threads):
    tinynet.set_num_threads(2)
    main = threading.get_ident()
    barrier = threading.Barrier(2, timeout=20)

    def piece(i):
        barrier.wait()
        if threading.get_ident() != main:
            raise KeyError("helper")

    with pytest.raises(KeyError, match="helper"):
        threads.parallel_for(piece, range(2))


def test_every_blas_gets_its_own_number_of_threads_back(monkeypatch):
    numbers = [8, 3]
    ways = [(lambda i=i: numbers[i], lambda n, i=i: numbers.__setitem__(i, n)) for i in (0, 1)]
    monkeypatch.setattr(threads, "_blas", ways)
    inside = []
    threads.parallel_for(lambda _: inside.append([*numbers]), [0])
    assert inside == [[1, 1]] and numbers == [8, 3]


def test_the_functions_that_set_a_blas_are_its_own_where_its_threads_are_one_team():
    """Those of an OpenBLAS whose threads are not OpenMP's, and only both of one name."""
    ours = {f"{verb}{end}": object() for verb in ("get", "set") for end in ("", "64_", "_64")}

    def found(api="openblas", layer="pthreads", prefix="", ends=("64_",), alone=()):
        names = [f"{prefix}openblas_{v}_num_threads{e}" for v in ("get", "set") for e in ends]
        names = dict(zip(names, [ours[v + e] for v in ("get", "set") for e in ends], strict=True))
        dynlib = SimpleNamespace(**names, **dict.fromkeys(alone, 1))
        library = SimpleNamespace(
            internal_api=api, threading_layer=layer, dynlib=dynlib,
            get_num_threads="general get", set_num_threads="general set",
        )  # fmt: skip
        return threads._get_and_set(library)

    for prefix, end in itertools.product(("", "scipy_"), ("", "64_", "_64")):
        assert found(prefix=prefix, ends=[end]) == (ours[f"get{end}"], ours[f"set{end}"])
    for verb in ("get", "set"):
        half = [f"openblas_{verb}_num_threads"]
        assert found(alone=half) == (ours["get64_"], ours["set64_"])
        assert found(ends=(), alone=half) == ("general get", "general set")
    assert found(layer="openmp") == found(api="mkl") == ("general get", "general set")


def test_blas_is_held_and_a_team_is_made_under_the_lock(any_threads, monkeypatch):
    """Or who comes meanwhile takes one thread for what BLAS had, and two teams are made."""

    class Lock:
        held = times = 0

        def __enter__(self):
            self.held, self.times = self.held + 1, self.times + 1

        def __exit__(self, *_):
            self.held -= 1

    lock, seen, Thread, Team = Lock(), [], threading.Thread, threads._Team

    def see(what, result=None):
        seen.append((what, lock.held))
        return result

    tinynet.set_num_threads(2)
    monkeypatch.setattr(threads, "_lock", lock)
    monkeypatch.setattr(threads, "_blas", [(lambda: see("get", 8), see)])
    monkeypatch.setattr(threads, "_Team", lambda size: see("team", Team(size)))
    monkeypatch.setattr(threading, "Thread", lambda **options: see("thread", Thread(**options)))
    threads.parallel_for(lambda _: see("work"), [0, 1])
    assert seen == [
        ("get", 1), (1, 1), ("team", 1), ("thread", 1), ("work", 0), ("work", 0), (8, 1),
    ]  # fmt: skip
    before = lock.times
    tinynet.set_num_threads(1)  # the team goes
    assert lock.times == before + 1


def test_scratch_is_reused_within_a_thread_and_not_across():
    scratch, another = Scratch(), Scratch()
    a = scratch.array((3, 4), np.float64)
    assert a.shape == (3, 4) and a.dtype == np.float64
    assert np.shares_memory(a, scratch.array((12,), np.float32))
    assert not np.shares_memory(a, another.array((3, 4), np.float64))
    bigger = scratch.array((5, 4), np.float64)
    assert not np.shares_memory(a, bigger)
    assert np.shares_memory(bigger, scratch.array((5, 4), np.float64))
    assert scratch.array((0, 4), np.float32).shape == (0, 4)
    other = []
    worker = threading.Thread(target=lambda: other.append(scratch.array((5, 4), np.float64)))
    worker.start()
    worker.join()
    assert not np.shares_memory(bigger, other[0])


def test_no_two_kernels_work_in_the_same_memory():
    """Each file of kernels makes its own, and takes none from another file."""
    owners = {}
    for name, module in list(sys.modules.items()):
        if name.startswith("tinynet.kernels."):
            for value in vars(module).values():
                if isinstance(value, Scratch):
                    owners.setdefault(id(value), set()).add(name)
    assert owners and all(len(names) == 1 for names in owners.values()), owners


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinities here")
def test_cores_are_those_this_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import tinynet\n"
        "from tinynet.devices.cores import available_cores\n"
        "print(available_cores(), tinynet.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TINYNET_NUM_THREADS"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.stdout.split() == ["1", "1"], run.stderr


def test_cores_have_the_systems_numbers(monkeypatch):
    """Those of a process that was given the last ones: workers are bound to them by number. A
    system without affinities gives all; one that cannot tell how many has one.
    """
    own = {0: {7, 5}}  # 0 is this process
    monkeypatch.setattr(os, "sched_getaffinity", own.__getitem__, raising=False)
    assert cores.cores() == [5, 7]
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((3, [0, 1, 2]), (None, [0])):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cores.cores() == expected


def test_the_processes_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: [1, 2, 3, 5, 7, 11, 13])
    try:
        for processes, each in ((3, 2), (2, 3), (1, 7), (7, 1), (50, 1)):
            cores.share(processes)  # so many in all, whatever was said before
            assert available_cores() == each
    finally:
        cores.share(1)


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "2", None])
def test_a_number_of_threads_is_a_positive_integer(wrong):
    before = tinynet.get_num_threads()
    with pytest.raises(ValueError, match="set_num_threads: expected an integer of at least 1"):
        tinynet.set_num_threads(wrong)
    assert tinynet.get_num_threads() == before


def test_pieces_are_eight_whatever_the_number_of_threads(any_threads):
    for count in (1, 2, 3):
        tinynet.set_num_threads(count)
        sizes = [threads.piece_size(total, 10, 100) for total in (0, 79, 80, 81, 792, 793, 10**6)]
        assert sizes == [10, 10, 10, 11, 99, 100, 100]


def test_ranges():
    assert threads.ranges(7, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert threads.ranges(6, 3) == [slice(0, 3), slice(3, 6)] and threads.ranges(0, 3) == []


def test_parts_are_as_many_as_they_may_be_of_one_length():
    for n, lengths in (0, []), (1, [1]), (4, [1] * 4), (5, [2, 2, 1]), (9, [3] * 3):
        assert [part.stop - part.start for part in threads.parts(n, 4)] == lengths


def test_pieces_hold_as_much_as_they_may_and_one_or_the_least_at_least():
    for n, each, lengths in (
        (5, 0, [5]),  # of nothing all at once
        (13, 1, [12, 1]),
        (5, 4, [3, 2]),
        (5, 5, [2, 2, 1]),
        (2, 12, [1, 1]),
        (2, 13, [1, 1]),
        (0, 1, []),
    ):
        assert [p.stop - p.start for p in threads.pieces_of(n, each=each, most=12)] == lengths
    assert threads.pieces_of(3, each=5, most=12, least=3) == [slice(0, 3)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own(any_threads):
    """Also if it is forked while a thread begins to hold BLAS to one thread, and has the lock: that
    thread is not copied.
    """
    code = """
import os, signal, sys, threading, tinynet
from threadpoolctl import threadpool_info, threadpool_limits
from tinynet.devices import threads
def blas():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]
threadpool_limits(2, user_api="blas")
before = blas()
tinynet.set_num_threads(2)
threads.parallel_for(lambda i: None, range(4))
begun, end = threading.Event(), threading.Event()
def hold(i):
    if threading.current_thread() is holder:
        begun.set()
        end.wait(50)
threads._blas.append((lambda: 1, hold))  # another BLAS, set after the others
holder = threading.Thread(target=threads.parallel_for, args=(print, ()))
holder.start()
begun.wait(50)
pid = os.fork()
if pid == 0:
    signal.alarm(40)
    done, two = [], threading.Barrier(2, timeout=20)
    threads.parallel_for(lambda i: (two.wait(), done.append(i)), range(2))
    threads.parallel_for(done.append, range(2, 4))
    os._exit(0 if sorted(done) == [0, 1, 2, 3] and blas() == before else 1)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
end.set()
holder.join()
sys.exit(status)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    "value, answer", [("3", "3"), (None, None), ("0", "expected an integer"), ("x", "got 'x'")]
)
def test_the_environment_sets_the_number_of_threads(value, answer):
    environment = {k: v for k, v in os.environ.items() if k != "TINYNET_NUM_THREADS"}
    environment |= {"TINYNET_NUM_THREADS": value} if value is not None else {}
    code = "import tinynet; print(tinynet.get_num_threads())"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    if answer is None:
        answer = str(available_cores())
    assert answer in (run.stdout.strip() if run.returncode == 0 else run.stderr)


# Randomness


def test_manual_seed_and_states():
    tinynet.manual_seed(2**64 - 1)
    assert random.next_call() == (2**64 - 1, 1) and random.next_call() == (2**64 - 1, 2)
    state = random.get_state()
    assert state == {"seed": 2**64 - 1, "calls": 2}
    a = random.generator().random(5)
    random.set_state(state)
    b, c = random.generator().random(5), random.generator().random(5)
    assert (a == b).all() and (a != c).all()
    random.set_state({"seed": 3, "calls": 4})
    assert random.next_call() == (3, 5)
    assert (
        np.random.Generator(np.random.Philox(key=[3, 6])).random(5) == random.generator().random(5)
    ).all()


@pytest.mark.parametrize("seed", [np.int64(5), np.uint64(2**64 - 1), 7])
def test_a_state_can_be_written_as_json(seed):
    tinynet.manual_seed(seed)
    random.next_call()
    state = json.loads(json.dumps(random.get_state()))
    assert state == {"seed": int(seed), "calls": 1}


def test_dropout_masks_do_not_depend_on_layout_dtype_or_device(rng):
    x = rng.normal(size=(5, 3, 4, 2))
    masks = []
    for array, device in [(x, "cpu"), (layouts(rng, x), "cpu:1"), (x.astype(np.float32), "cpu")]:
        tinynet.manual_seed(4)
        masks.append(F.dropout(tinynet.tensor(array, device=device), 0.4).numpy() != 0)
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()
    assert (F.dropout(tinynet.tensor(x), 0.4).numpy() != 0).tolist() != masks[0].tolist()


def test_the_numbers_of_a_seed_are_the_same_for_ever():
    """The draws of a seed are numbered from 1; each is Philox with (seed, number) as its key."""
    tinynet.manual_seed(7)
    ones = np.ones((3, 5), np.float32)
    first = F.dropout(tinynet.tensor(ones), 0.5).numpy() != 0
    second = tinynet.randn(4).numpy()
    np.testing.assert_array_equal(first, dropout_mask_definition((3, 5), 0.5, 7, 1))
    draw = np.random.Generator(np.random.Philox(key=np.array([7, 2], np.uint64)))
    np.testing.assert_array_equal(second, draw.standard_normal(4, np.float32))
    assert random.get_state() == {"seed": 7, "calls": 2}
    F.dropout(tinynet.tensor(ones), 0.5, training=False)
    F.dropout(tinynet.tensor(ones), 0.0)
    tinynet.zeros(3)
    assert random.get_state() == {"seed": 7, "calls": 2}  # nothing was drawn
