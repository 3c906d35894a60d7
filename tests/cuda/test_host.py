"""The host code of the CUDA path, on the stand-in: order between streams, copies, memory, and clear
errors.
"""

from __future__ import annotations

import importlib
import itertools
import operator
import pickle
import sys
import threading

import fake_cupy
import numpy as np
import pytest

import tinynet
from tinynet.devices import Device

DIRECTLY = ["two GPUs", "one GPU twice"]
SIMULATED = [*DIRECTLY, "two GPUs, and no way between", "two GPUs, and no way back"]


@pytest.fixture(params=[*SIMULATED, pytest.param("a real GPU twice", marks=pytest.mark.gpu)])
def pair(request: pytest.FixtureRequest) -> tuple[Device, Device]:
    if request.param in SIMULATED:
        machine = request.getfixturevalue("machine")
        machine.peers = "between" not in request.param
        machine.no_way = {(1, 0)} if "back" in request.param else set()
    first = tinynet.device("cuda:0")
    return first, tinynet.device("cuda:1") if "two GPUs" in request.param else first.twin()


def innermost(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.moveaxis(rng.standard_normal((*shape[1:], shape[0])).astype(np.float32), -1, 0)


def test_the_stand_in_computes_in_c_order_as_cupy_does(
    machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    gpu = tinynet.device("cuda")
    x = gpu.upload(innermost(rng, 8, 3, 5, 5))
    with gpu.activate():
        for y in (x + x, gpu.xp.exp(x), x.copy(), -x, x * 2):
            assert y.flags.c_contiguous
        assert x.astype(np.float64).strides == tuple(2 * s for s in x.strides)
    assert machine.against_memory["__add__ (8, 3, 5, 5)"] == 2
    machine.against_memory.clear()
    np.testing.assert_array_equal(gpu.download(x).shape, x.shape)
    assert not machine.against_memory


def test_copies_between_devices(pair: tuple[Device, Device], rng: np.random.Generator) -> None:
    a, b = pair
    for array in (
        innermost(rng, 4, 3, 5, 2),
        rng.standard_normal((3, 2)),
        np.empty((0, 2)),
        np.array(2.5),
    ):
        there = b.copy_from(a.upload(array), a)
        np.testing.assert_array_equal(b.download(there), array)
        assert there.strides == array.strides or array.size == 0
        if array.ndim > 1:
            np.testing.assert_array_equal(
                b.download(b.copy_from(a.upload(array)[:, 1:], a)), array[:, 1:]
            )


def test_a_chain_of_copies_without_work_between(
    pair: tuple[Device, Device], rng: np.random.Generator
) -> None:
    a, b = pair
    x = rng.standard_normal(7)
    on_a = a.upload(x)  # kept, so that its memory is not used for what comes back
    np.testing.assert_array_equal(a.download(a.copy_from(b.copy_from(on_a, a), b)), x)
    b.synchronize()
    assert not a._lane.waits and not b._lane.waits  # what was waited for is forgotten


def test_a_copy_into_memory_that_is_still_read(pair: tuple[Device, Device]) -> None:
    a, b = pair
    x, y = tinynet.tensor(np.ones(100), device=a), tinynet.tensor(np.zeros(100), device=b)
    z = y + 1
    del y  # its block is free for the host; b's stream has yet to read it
    assert (z + x.to(b)).numpy().sum() == 200


@pytest.mark.parametrize("pair", DIRECTLY, indirect=True)
def test_swapping_halves_copies_both_ways_at_once(
    pair: tuple[Device, Device], rng: np.random.Generator
) -> None:
    """Neither copy waits for the other: the second one's clock does not know the first."""
    a, b = pair
    x, y = (tinynet.tensor(rng.standard_normal(5), device=d) for d in pair)
    x_there, y_here = x.to(b), y.to(a)
    copies_a, copies_b = a._lane.copies, b._lane.copies
    assert copies_a.number not in copies_b.clock and copies_b.number not in copies_a.clock
    np.testing.assert_array_equal((x_there + 1).numpy(), x.numpy() + 1)
    np.testing.assert_array_equal((y_here + 1).numpy(), y.numpy() + 1)


@pytest.mark.parametrize("pair", DIRECTLY, indirect=True)
def test_a_crossing_copies_both_ways_at_once_in_backward_too(
    machine: fake_cupy.Machine, pair: tuple[Device, Device], rng: np.random.Generator
) -> None:
    """Two towers that swap their maps twice, as AlexNet does: neither copy of a pair knows the
    other, forward or backward.
    """
    a, b = pair
    h, k = (tinynet.tensor(rng.standard_normal((4, 6)), device=d, requires_grad=True) for d in pair)
    x, y = h * 2, k * 2
    for _ in range(2):
        y_on_a, x_on_b = y.to(a), x.to(b)
        together = tinynet.concat([x, y_on_a], axis=1), tinynet.concat([x_on_b, y], axis=1)
        x, y = ((both * both)[:, :6] * 0.1 for both in together)
    loss = x.sum() + y.sum().to(a)
    for phase in ("forward", "backward"):
        # The last copy forward, and the first backward, is that of the loss, one way only.
        swaps = machine.copies[:4] if phase == "forward" else machine.copies[1:]
        assert len(swaps) == 4 and len(machine.copies) == 5
        for (first, clock), (second, other) in zip(swaps[::2], swaps[1::2], strict=True):
            assert first != second
            assert not clock.knows((second, other[second])), phase
            assert not other.knows((first, clock[first])), phase
        if phase == "forward":
            machine.copies.clear()
            loss.backward()


def test_memory_of_a_source_is_not_used_again_before_it_was_read(
    pair: tuple[Device, Device],
) -> None:
    a, b = pair
    for part in (slice(None), slice(10, 20), slice(50), slice(50, None)):
        x = a.upload(np.ones(100))
        y = b.copy_from(x[part], a)
        del x
        with a.activate("Copy"):  # under which waits are not queued: the allocator must
            reused = a.xp.zeros(100)
        del reused
        np.testing.assert_array_equal(b.download(y), np.ones(100)[part])


def test_what_touches_memory_is_what_overlaps_it(machine: fake_cupy.Machine) -> None:
    lane = tinynet.device("cuda")._lane
    ranges = [(first, end) for first in range(5) for end in range(first + 1, 6)]
    for first, end in ranges:
        lane.waits = [((start, stop), start, stop) for start, stop in ranges]
        assert lane.pending(first, end) == [
            (start, stop) for start, stop in ranges if {*range(first, end)} & {*range(start, stop)}
        ]
    lane.waits = []


def test_to_synchronize_is_to_wait_for_all_streams_and_copies(machine: fake_cupy.Machine) -> None:
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    x = a.upload(np.ones(30))
    for device in (a, b):  # the copy from a to b runs on b's stream, and a's next work waits for it
        b.copy_from(x, a)
        x = a.upload(np.ones(30))
        lane = device._lane
        ends = [lane.mark(stream) for stream in (lane.stream, lane.copies, lane.uploads)]
        ends += [event for event, *_ in lane.waits]
        assert len(ends) >= 3 and not all(end.done for end in ends)
        device.synchronize()
        assert all(end.done for end in ends) and not lane.waits


def test_a_copy_notes_every_byte_that_it_touches(machine: fake_cupy.Machine) -> None:
    """Of the source and of the target, for both lanes."""
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    for dtype in (np.uint8, np.float64):
        x = a.upload(np.ones(30, dtype))
        for device in (a, b):
            device.synchronize()
        y = b.copy_from(x[10:], a)
        for device, array in ((a, x[10:]), (b, y)):
            (noted,) = device._lane.waits
            assert noted[1:] == (array.data.ptr, array.data.ptr + array.nbytes)
    a.synchronize()
    b.copy_from(a.upload(np.empty((0, 3))), a)
    assert not a._lane.waits  # nothing is nowhere


def test_kernels_run_on_the_innermost_lane_of_their_own_thread(machine: fake_cupy.Machine) -> None:
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    lane_of, found = sys.modules["tinynet.devices.cuda"].current_lane, []

    def other() -> None:
        try:
            lane_of()
        except RuntimeError as error:
            found.append(error)

    with a.activate(), b.activate():
        assert lane_of() is b._lane
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "inside device.activate()" in str(found)


def test_a_copy_made_deep_inside_other_work_is_waited_for(pair: tuple[Device, Device]) -> None:
    """Inside an operation of the receiver, which runs inside one of the sender."""
    a, b = pair
    for here, there in ((a, b), (b, a)):
        x = here.upload(np.ones(100))
        with here.activate("outer"), there.activate("inner"):
            y = there.copy_from(x, here)
            with here.activate():
                x.fill(2)  # after the copy has read it
        with here.activate("outer"):
            with there.activate("inner"):
                z = there.copy_from(x, here)
            x.fill(3)
        assert (there.download(y) == 1).all() and (there.download(z) == 2).all()


@pytest.mark.parametrize("outer", ["Copy", "work"])
def test_copies_made_before_are_waited_for_inside_other_work(
    pair: tuple[Device, Device], outer: str
) -> None:
    """All of them, by the first work that is no copy: of the sender's, then of the receiver's."""
    a, b = pair
    for sender, receiver in ((a, b), (b, a)):
        for outside in (a, b):
            xs = [sender.upload(np.ones(n)) for n in (100, 50)]
            ys = [receiver.copy_from(x, sender) for x in xs]
            for device, arrays in ((sender, xs), (receiver, ys)):
                with outside.activate(outer), device.activate("inner"):
                    for array in arrays:
                        array += 1
            for y in ys:
                assert (receiver.download(y) == 2).all()


def test_pinned_memory_of_copies_is_kept_as_long_as_they_read_it(
    machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    """And no longer: the host learns of it at the next copy."""
    machine.peers = False
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    x = a.upload(rng.standard_normal(100))
    there = [b.copy_from(x, a) for _ in range(5)]
    assert len(b._lane.staged) == 5 and not machine.gone_in_use
    for event, pinned in b._lane.staged:  # which comes after the copy
        assert pinned.history.reads and all(map(event.clock.knows, pinned.history.reads.items()))
    for copied in there:
        np.testing.assert_array_equal(b.download(copied), a.download(x))
    b.copy_from(x, a)
    assert len(b._lane.staged) == 1


def test_the_stand_in_notices_what_is_not_ordered(machine: fake_cupy.Machine) -> None:
    cupy, a, b = sys.modules["cupy"], tinynet.device("cuda:0"), tinynet.device("cuda:1")
    x = a.upload(np.ones(5))
    with cupy.cuda.Device(0), cupy.cuda.Stream(), pytest.raises(fake_cupy.Unordered):
        x + 1
    with b.activate(), pytest.raises(AssertionError, match="GPU 0"):
        x + 1
    with a.activate(), pytest.raises(TypeError, match="NumPy"):
        x + np.ones(5)
    with a.activate(), pytest.raises(TypeError, match="[Ii]mplicit"):
        np.asarray(x)
    with a.activate(), pytest.raises(TypeError):
        x[:] = np.ones(5)
    pinned = fake_cupy.empty_pinned(5)
    with a.activate():
        x.set(pinned, stream=a._lane.stream)
        with pytest.raises(fake_cupy.Unordered, match="pinned"):
            x.set(pinned, stream=a._lane.stream)
    with pytest.raises(fake_cupy.Unordered, match="pinned"):
        np.copyto(pinned[:2], np.ones(2))
    np.copyto(np.empty(5), pinned)
    assert not machine.gone_in_use
    del pinned
    assert machine.gone_in_use
    machine.gone_in_use = 0


@pytest.mark.parametrize(
    "fault",
    ["none", "no way back", "no peer access", "peer access that lies", "peer access that fails"],
)
def test_without_peer_access_copies_go_through_the_host(
    machine: fake_cupy.Machine, rng: np.random.Generator, fault: str
) -> None:
    machine.peers, machine.peers_lie = fault != "no peer access", "that" in fault
    ways = {"no way back": {(1, 0)}, "peer access that fails": {(0, 1), (1, 0)}}
    machine.no_way = ways.get(fault, set())
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    for _ in range(3):
        x = innermost(rng, 4, 3, 5, 2)
        np.testing.assert_array_equal(b.download(b.copy_from(a.upload(x), a)), x)
        np.testing.assert_array_equal(a.download(a.copy_from(b.upload(x), b)), x)
    all_of_it = (1 << 20) + 3 * 480  # the probe, and what was asked for
    assert (machine.peer_bytes[0, 1], machine.peer_bytes[1, 0]) == {
        "none": (all_of_it, all_of_it), "no way back": (all_of_it, 0), "no peer access": (0, 0),
        "peer access that lies": (1 << 20, 1 << 20), "peer access that fails": (0, 0),
    }[fault]  # fmt: skip


def test_launchers_hold_arguments_to_their_declaration(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    launch = importlib.import_module("tinynet.kernels.cuda.launch")
    x, elsewhere = a.upload(np.ones((2, 3), np.float32)), b.upload(np.ones((2, 3), np.float32))
    add = launch.Source("add_to_columns.cu").add_to_columns
    with pytest.raises(RuntimeError, match="activate"):
        add((6, 1), x, x, 3, True, 6)
    # What is right is remembered; what is wrong after that, is refused all the same.
    for device, array in ((a, x), (b, elsewhere)):
        with device.activate():
            add((6, 1), array, array, 3, True, 6)
    with b.activate(), pytest.raises(tinynet.DeviceMismatchError, match="cuda:0"):
        add((6, 1), x, x, 3, True, 6)
    with a.activate():
        with pytest.raises(tinynet.DeviceMismatchError, match="cuda:1"):
            add((6, 1), x, elsewhere, 3, True, 6)
        with pytest.raises(TypeError, match="float, got float64"):
            add((6, 1), x, x.astype(np.float64), 3, True, 6)
        with pytest.raises(TypeError, match="b is a CuPy array"):
            add((6, 1), x, np.ones(3, np.float32), 3, True, 6)
        with pytest.raises(TypeError, match="O is a number"):
            add((6, 1), x, x, x, True, 6)
        with pytest.raises(ValueError, match="contiguous"):
            add((6, 1), x, x.T, 3, True, 6)
        with pytest.raises(TypeError, match="5 arguments"):
            add((6, 1), x, x)
        with pytest.raises(ValueError, match="grid"):
            add((6, 2**31), x, x, 3, True, 6)
        with monkeypatch.context() as patch:
            patch.setattr(launch, "LIMIT", 6)
            add((6, 6), x, x, 3, True, 6)  # as many as there may be
            for threads in ((7, 1), (1, 7)):
                with pytest.raises(ValueError, match="grid"):
                    add(threads, x, x, 3, True, 6)
        with pytest.raises(tinynet.DeviceMismatchError, match="sgd_step: grad lives on cuda:1"):
            a.kernels.run_steps(a.kernels.sgd_step, [(x, elsewhere, x, 0.1, 0.9, 0.0)])
        with pytest.raises(TypeError, match="sgd_step: velocity is float, got float64"):
            a.kernels.sgd_step(x, x, x.astype(np.float64), 0.1, 0.9, 0.0)
        right, rates = (x, x, x, 0.1, 0.9, 0.0), (0.1, 0.9, 0.0)
        for wrong in ((x, x, elsewhere, *rates), (x, elsewhere, x, *rates)):
            for calls in ([right, wrong], [wrong, right]):
                with pytest.raises(tinynet.DeviceMismatchError, match="lives on cuda:1"):
                    a.kernels.run_steps(a.kernels.sgd_step, calls)
        for dtype in (np.complex64, np.float16, np.int64):
            with pytest.raises(TypeError, match=f"x is float or double, got {np.dtype(dtype)}"):
                a.kernels.relu_forward(a.upload(np.ones(3, dtype)))
        gemm = importlib.import_module("tinynet.kernels.cuda.gemm").gemm
        with pytest.raises(tinynet.DeviceMismatchError, match="gemm: b"):
            gemm(x, elsewhere.T, a.xp.zeros((2, 2), np.float32))
        with pytest.raises(ValueError, match="do not fit"):
            gemm(x, x, a.xp.zeros((2, 2), np.float32))
        many, few = a.xp.zeros((2, 2, 3, 3), np.float32), a.xp.zeros((3, 3), np.float32)
        for given in ((many, many, many), (many[0], few, few), (few, many[0, :1], many[0])):
            with pytest.raises(ValueError, match="do not fit"):
                gemm(*given)


def test_a_launch_that_is_remembered_takes_its_own_numbers(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda:0")
    launch = importlib.import_module("tinynet.kernels.cuda.launch")
    add = launch.Source("add_to_columns.cu").add_to_columns
    with gpu.activate():
        for slope in (0.5, 0.25, 0.0, -0.0, 1, 0):
            y = gpu.download(gpu.kernels.leaky_relu_forward(gpu.upload(np.array([-2.0])), slope))
            assert y == -2 * slope and np.signbit(y) == np.signbit(-2.0 * slope)
        for relu, columns, expected in (
            (True, 2, [0, 5, 0, 7]), (False, 2, [-1, 5, -3, 7]), (False, 1, [-1, 4, -3, 6]),
        ):  # fmt: skip
            y, bias = (gpu.upload(np.array(v, np.float32)) for v in ([-1, 4, -3, 6], [0, 1]))
            add((4, 1), y, bias, columns, relu, 4)
            assert gpu.download(y).tolist() == expected
        with pytest.raises(TypeError, match="O is a number, got an array"):
            add((4, 1), y, bias, np.ones(1), True, 4)


def test_gemm_takes_what_cublas_can(machine: fake_cupy.Machine, rng: np.random.Generator) -> None:
    gpu = tinynet.device("cuda:0")
    gemm = importlib.import_module("tinynet.kernels.cuda.gemm").gemm
    a, b = rng.standard_normal((4, 5)), rng.standard_normal((5, 3))
    with gpu.activate():
        on_gpu = {
            "rows": (gpu.upload(a), gpu.upload(b)),
            "columns": (gpu.upload(a.T.copy()).T, gpu.upload(b.T.copy()).T),
            "one row": (gpu.upload(a[:1]), gpu.upload(b)),
            "one column": (gpu.upload(a), gpu.upload(b[:, :1].copy())),
            "a column of a matrix": (gpu.upload(a), gpu.upload(b)[:, 1:2]),
            "an outer product": (gpu.upload(a)[:, 2:3], gpu.upload(b)[1:2]),
        }
        for name, (x, y) in on_gpu.items():
            out = gpu.upload(np.ones((x.shape[0], y.shape[1])))
            for add in (False, True):
                gemm(x, y, out, add=add)
                expected = (1 + add) * (gpu.download(x) @ gpu.download(y))
                np.testing.assert_allclose(
                    gpu.download(out), expected, rtol=1e-12, atol=1e-14, err_msg=name
                )
        out = gpu.upload(np.ones((4, 3)))
        gemm(
            gpu.upload(a[:, :0].copy()), gpu.upload(b[:0]), out, add=True
        )  # no terms: nothing is added
        assert (gpu.download(out) == 1).all()
        gemm(gpu.upload(a[:, :0].copy()), gpu.upload(b[:0]), out)
        assert (gpu.download(out) == 0).all()
        gemm(gpu.upload(a[:0]), gpu.upload(b), gpu.upload(np.ones((0, 3))))  # no rows: no call
        x, y = on_gpu["rows"]
        with pytest.raises(
            TypeError, match="gemm: expected float32 or float64 throughout, a is int64"
        ):
            gemm(gpu.upload(np.ones((4, 5), int)), y, out)
        with pytest.raises(TypeError, match="throughout, b is float32"):
            gemm(x, gpu.upload(b.astype(np.float32)), out)
        with pytest.raises(ValueError, match="rows of out must be contiguous"):
            gemm(x, y, gpu.upload(np.ones((3, 4))).T)
        with pytest.raises(ValueError, match="neither rows nor columns are contiguous"):
            gemm(gpu.upload(rng.standard_normal((8, 10)))[::2, ::2], y, out)
        with pytest.raises(ValueError, match=r"neither rows nor columns .*\(strides \(0, 8\)\)"):
            gemm(gpu.xp.broadcast_to(x[:1], x.shape), y, out)  # one row for all: no step is 0


@pytest.mark.parametrize("pairs", [(), (2,)])
def test_gemm_refuses_any_one_matrix_that_does_not_fit(
    machine: fake_cupy.Machine, pairs: tuple
) -> None:
    """cuBLAS would read or write past its end, or beside what was meant."""
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    a.kernels  # noqa: B018  imports them
    gemm = sys.modules["tinynet.kernels.cuda.gemm"].gemm
    shapes = dict(a=(*pairs, 3, 4), b=(*pairs, 4, 5), out=(*pairs, 3, 5))
    right = {label: a.upload(np.ones(shape)) for label, shape in shapes.items()}
    with a.activate():
        gemm(**right)
        for label, shape in shapes.items():
            wrong = [
                (*shape[:axis], shape[axis] + more, *shape[axis + 1 :])
                for axis in range(len(shape)) for more in (-1, 1)
            ]  # fmt: skip
            for given in (*wrong, (1, *shape), (*shape, 1)):
                if label == "out" and given == (1, 3, 5):
                    continue  # one pair: both have it
                with pytest.raises(ValueError, match=r"gemm: shapes .* do not fit"):
                    gemm(**right | {label: a.upload(np.ones(given))})
            for dtype in (np.float32, np.int64):
                with pytest.raises(TypeError, match="expected float32 or float64 throughout"):
                    gemm(**right | {label: a.upload(np.ones(shape, dtype))})
            with pytest.raises(tinynet.DeviceMismatchError, match=f"gemm: {label} lives on cuda:1"):
                gemm(**right | {label: b.upload(np.ones(shape))})
        with pytest.raises(ValueError, match="do not fit"):  # two axes of pairs
            gemm(**{label: a.upload(np.ones((2, 2, *s[-2:]))) for label, s in shapes.items()})
        assert (a.download(right["out"]) == 4).all()


def test_gemm_takes_every_layout_that_cublas_has(machine: fake_cupy.Machine) -> None:
    """Rows or columns are contiguous and do not overlap, and no others are taken: of one row or
    one column the distance to the next says nothing.
    """
    gpu = tinynet.device("cuda:0")
    gemm = importlib.import_module("tinynet.kernels.cuda.gemm").gemm
    as_strided = sys.modules["cupy"].lib.stride_tricks.as_strided
    memory = gpu.upload(np.arange(1.0, 18))
    for rows, columns, *steps in itertools.product((1, 2, 3), (1, 2, 3), range(5), range(5)):
        down, right = steps
        by_rows = (columns == 1 or right == 1) and (rows == 1 or down >= columns)
        by_columns = (rows == 1 or down == 1) and (columns == 1 or right >= rows)
        with gpu.activate():
            x = as_strided(memory, (rows, columns), (8 * down, 8 * right))
            left, one = gpu.xp.ones((2, rows)), gpu.xp.ones((columns, 2))
            calls = [(x, one, gpu.xp.zeros((rows, 2))), (left, x, gpu.xp.zeros((2, columns)))]
            for a, b, out in calls:
                if by_rows or by_columns:
                    gemm(a, b, out)
                    assert (gpu.download(out) == gpu.download(a) @ gpu.download(b)).all()
                else:
                    with pytest.raises(ValueError, match="neither rows nor columns"):
                        gemm(a, b, out)
            given = gpu.xp.ones((rows, 2)), gpu.xp.ones((2, columns))
            if by_rows:
                out = as_strided(gpu.xp.zeros(17), (rows, columns), (8 * down, 8 * right))
                gemm(*given, out)
                assert (gpu.download(out) == 2).all()
            else:
                with pytest.raises(ValueError, match="contiguous"):
                    gemm(*given, x)


def test_whole_numbers_become_their_type_once_for_a_kind_of_call(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step launches what the step before launched; to bring its sizes to their types took longer
    than the rest of a launch.
    """
    gpu, made = tinynet.device("cuda"), []
    launch = importlib.import_module("tinynet.kernels.cuda.launch")
    monkeypatch.setitem(launch.C_TYPES, "int", lambda n: (made.append(n), np.int32(n))[1])
    add = launch.Source("add_to_columns.cu").add_to_columns
    with gpu.activate():
        for columns in (3, 3, 2, 3):
            y, bias = (gpu.upload(np.ones(n, np.float32)) for n in (6, columns))
            add((6, 1), y, bias, columns, True, 6)
    assert made == [3, 2]


def test_a_launch_keeps_no_array(machine: fake_cupy.Machine) -> None:
    """Of what it remembers for the next one: memory is free as soon as nobody else has it."""
    gpu = tinynet.device("cuda")
    used = []
    for _ in range(2):
        x = tinynet.tensor(np.ones((30, 40)), device=gpu)
        tinynet.softmax(tinynet.relu(x.exp() @ x.T), -1)
        used.append(gpu.memory_stats().used)
        del x
        used.append(gpu.memory_stats().used)
    assert used[0] - used[1] == used[2] - used[3] == 30 * 40 * 8 // 512 * 512 + 512


def test_a_kernel_that_is_not_there(machine: fake_cupy.Machine) -> None:
    tinynet.device("cuda")
    launch = importlib.import_module("tinynet.kernels.cuda.launch")
    with pytest.raises(AttributeError, match="no kernel 'sgd_stop' in this source"):
        launch.Source("elementwise.cu").sgd_stop  # noqa: B018


def test_bias_and_relu_are_one_launch_and_so_are_their_gradients(
    machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    x = tinynet.tensor(innermost(rng, 4, 2, 5, 5), device="cuda", requires_grad=True)
    layers = [
        tinynet.nn.Conv2d(2, 3, 3, relu=True, device="cuda"), tinynet.nn.Flatten(),
        tinynet.nn.Linear(27, 6, relu=True, device="cuda"),
    ]  # fmt: skip
    tinynet.nn.Sequential(*layers)(x).sum().backward()
    assert machine.launches["add_to_rows"] == machine.launches["relu_row_sums"] == len(layers) - 1
    assert not any(
        machine.launches[kernel] for kernel in ("relu_forward", "relu_backward", "row_sums")
    )


def test_tf32(machine: fake_cupy.Machine, rng: np.random.Generator) -> None:
    gpu = tinynet.device("cuda")
    x, w = (rng.standard_normal((30, 30)).astype(np.float32) for _ in range(2))
    exact = x.astype(np.float64) @ w

    def error(where: Device) -> float:
        x_, w_ = (tinynet.tensor(a, device=where) for a in (x, w))
        pairs = (tinynet.tensor(np.stack([a, a]), device=where) for a in (x, w))
        one, many = (
            float(np.abs(y.numpy() - exact).max()) for y in (x_ @ w_, operator.matmul(*pairs))
        )
        assert one == many  # batched products obey as well
        return one

    assert error(gpu) < 1e-5
    tinynet.set_tf32(True)
    assert 1e-4 < error(gpu) < 1e-1
    tinynet.set_tf32(False)
    assert error(gpu) < 1e-5
    tinynet.set_tf32(True)
    for later in (gpu.twin(), tinynet.device("cuda:1")):  # whose handles are made now
        assert 1e-4 < error(later) < 1e-1


def test_every_product_is_made_by_the_handle_of_its_own_lane(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lanes that share a handle share its workspace, and so may get other bits."""
    zero = tinynet.device("cuda:0")
    blas, handles = sys.modules["cupy"].cuda.cublas, []
    for name in ("sgemm", "sgemmStridedBatched"):
        routine = getattr(blas, name)
        monkeypatch.setattr(
            blas, name, lambda handle, *args, r=routine: (handles.append(handle), r(handle, *args))
        )
    for device in (zero, zero.twin()):
        handles.clear()
        for shape in ((3, 3), (2, 3, 3)):
            x = tinynet.tensor(np.ones(shape, np.float32), device=device, requires_grad=True)
            (x @ x).sum().backward()
        assert len(handles) == 6 and set(handles) == {device._lane.blas.handle()}


def test_twins_and_names(machine: fake_cupy.Machine) -> None:
    zero, same, one = (tinynet.device(n) for n in ("cuda:0", "cuda", "cuda:1"))
    twin = zero.twin()
    assert zero == same == "cuda:0" and zero._lane is same._lane and zero != one
    assert twin != zero and zero != twin and twin != "cuda:0" and twin is zero.twin()
    assert twin._lane.stream is not zero._lane.stream and len({zero, same, one, twin}) == 3
    assert twin.twin() is twin and twin.name == "cuda:0'" and twin.index == 0
    assert pickle.loads(pickle.dumps(twin)) is twin and pickle.loads(pickle.dumps(zero)) is zero
    with pytest.raises(tinynet.DeviceMismatchError):
        tinynet.tensor([1.0], device=zero) + tinynet.tensor([1.0], device=twin)
