"""The host code of the CUDA path, on the stand-in: order between streams, copies, memory, and clear
errors.
"""

from __future__ import annotations

import importlib
import operator
import pickle
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import fake_cupy
import numpy as np
import pytest

import tinynet
from tinynet.devices import Device

SIMULATED = ["two GPUs", "one GPU twice"]


@pytest.fixture(params=[*SIMULATED, pytest.param("a real GPU twice", marks=pytest.mark.gpu)])
def pair(request: pytest.FixtureRequest) -> tuple[Device, Device]:
    if request.param in SIMULATED:
        request.getfixturevalue("machine")
    first = tinynet.device("cuda:0")
    return first, tinynet.device("cuda:1") if request.param == "two GPUs" else first.twin()


def innermost(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.moveaxis(rng.standard_normal((*shape[1:], shape[0])).astype(np.float32), -1, 0)


def test_upload_and_download_keep_values_and_layout(gpu: Device, rng: np.random.Generator) -> None:
    for array in (
        innermost(rng, 8, 3, 20, 20),  # several slots
        rng.standard_normal((3, 4)),
        rng.integers(0, 9, 5),
        np.array(True),
        np.empty((0, 3), np.float32),
        rng.integers(0, 255, (4, 5, 6, 3), np.uint8)[:, ::2],
    ):
        on_gpu = gpu.upload(array)
        np.testing.assert_array_equal(gpu.download(on_gpu), array)
        assert on_gpu.dtype == array.dtype
        if array.size and array.flags.c_contiguous != array.T.flags.c_contiguous:
            assert on_gpu.strides == array.strides


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


def test_uploads_wait_only_for_pinned_memory_that_is_still_read(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    gpu.upload(np.zeros(1 << 13, np.uint8))  # two slots of four
    assert machine.host_waits == 0
    gpu.upload(np.zeros(1 << 14, np.uint8))  # the first two once more
    assert 1 <= machine.host_waits <= 2


def test_a_number_takes_no_large_slot(machine: fake_cupy.Machine) -> None:
    """Of pinned memory, and of the GPU's: a slot of 64 bytes here, and not one of 4096."""
    gpu, before = tinynet.device("cuda"), machine.pinned
    for _ in range(9):  # twice round its ring
        gpu.upload(np.float32(3))
    assert before - machine.pinned == 4 * 64
    gpu.upload(np.zeros(65, np.uint8))
    assert before - machine.pinned == 4 * 64 + 4096


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


def test_a_copy_into_memory_that_is_still_read(pair: tuple[Device, Device]) -> None:
    a, b = pair
    x, y = tinynet.tensor(np.ones(100), device=a), tinynet.tensor(np.zeros(100), device=b)
    z = y + 1
    del y  # its block is free for the host; b's stream has yet to read it
    assert (z + x.to(b)).numpy().sum() == 200


@pytest.mark.parametrize("pair", SIMULATED, indirect=True)
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


@pytest.mark.parametrize("pair", SIMULATED, indirect=True)
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
    for _ in range(3):
        x = tinynet.tensor(np.ones(100), device=a)
        y = x.to(b)
        del x
        with a.activate("Copy"):  # under which waits are not queued: the allocator must
            reused = a.xp.zeros(100)
        del reused
        assert y.numpy().sum() == 100


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


@pytest.mark.parametrize("fault", ["none", "no peer access", "peer access that lies"])
def test_without_peer_access_copies_go_through_the_host(
    machine: fake_cupy.Machine, rng: np.random.Generator, fault: str
) -> None:
    machine.peers, machine.peers_lie = fault != "no peer access", fault == "peer access that lies"
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    for _ in range(3):
        x = innermost(rng, 4, 3, 5, 2)
        np.testing.assert_array_equal(b.download(b.copy_from(a.upload(x), a)), x)
    probe = 1 << 20
    assert (
        machine.peer_bytes[0, 1]
        == {"none": probe + 3 * 480, "no peer access": 0, "peer access that lies": probe}[fault]
    )


def test_launchers_hold_arguments_to_their_declaration(machine: fake_cupy.Machine) -> None:
    a, b = tinynet.device("cuda:0"), tinynet.device("cuda:1")
    launch = importlib.import_module("tinynet.kernels.cuda.launch")
    x, elsewhere = a.upload(np.ones((2, 3), np.float32)), b.upload(np.ones((2, 3), np.float32))
    add = launch.Source("add_to_columns.cu").add_to_columns
    with pytest.raises(RuntimeError, match="activate"):
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
        with pytest.raises(tinynet.DeviceMismatchError, match="sgd_step: grad lives on cuda:1"):
            a.kernels.run_steps(a.kernels.sgd_step, [(x, elsewhere, x, 0.1, 0.9, 0.0)])
        with pytest.raises(TypeError, match="sgd_step: velocity is float, got float64"):
            a.kernels.sgd_step(x, x, x.astype(np.float64), 0.1, 0.9, 0.0)
        for dtype in (np.complex64, np.float16, np.int64):
            with pytest.raises(TypeError, match=f"x is float or double, got {np.dtype(dtype)}"):
                a.kernels.relu_forward(a.upload(np.ones(3, dtype)))
        gemm = importlib.import_module("tinynet.kernels.cuda.gemm").gemm
        with pytest.raises(tinynet.DeviceMismatchError, match="gemm: b"):
            gemm(x, elsewhere.T, a.xp.zeros((2, 2), np.float32))
        with pytest.raises(ValueError, match="do not fit"):
            gemm(x, x, a.xp.zeros((2, 2), np.float32))


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
                np.testing.assert_allclose(gpu.download(out), expected, rtol=1e-12, err_msg=name)
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

    def error() -> float:
        x_, w_ = (tinynet.tensor(a, device=gpu) for a in (x, w))
        pairs = (tinynet.tensor(np.stack([a, a]), device=gpu) for a in (x, w))
        one, many = (
            float(np.abs(y.numpy() - exact).max()) for y in (x_ @ w_, operator.matmul(*pairs))
        )
        assert one == many  # batched products obey as well
        return one

    assert error() < 1e-5
    tinynet.set_tf32(True)
    assert 1e-4 < error() < 1e-1
    tinynet.set_tf32(False)
    assert error() < 1e-5


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
    assert pickle.loads(pickle.dumps(twin)) is twin and pickle.loads(pickle.dumps(zero)) is zero
    with pytest.raises(tinynet.DeviceMismatchError):
        tinynet.tensor([1.0], device=zero) + tinynet.tensor([1.0], device=twin)


def test_memory_stats_and_out_of_memory(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    before = gpu.memory_stats()
    x = tinynet.tensor(np.ones((32, 1000), np.float32), device=gpu)
    during = gpu.memory_stats()
    del x
    after = gpu.memory_stats()
    assert tinynet.memory_stats("cuda:0").used == after.used
    assert (
        during.used >= before.used + 128000 > after.used
        and after.peak >= during.used
        and after.held >= 128000
    )
    machine.memory = 1 << 20
    x = tinynet.tensor(np.ones((32, 10, 20, 20), np.float32), device=gpu)
    with pytest.raises(tinynet.OutOfMemoryError) as caught:
        tinynet.functional.local_response_norm(x, 5)
    message = str(caught.value)
    assert (
        "LocalResponseNorm asked for 500 KiB" in message
        and "cuda:0" in message
        and "\n" not in message
    )
    assert "of a batch of 32, at most" in message
    fits = int(message.split("at most ")[1].split()[0])
    assert 16 <= fits < 32
    with pytest.raises(
        tinynet.OutOfMemoryError,
        match="an operation asked for 8.00 GiB.*: use a smaller batch size$",
    ):
        with gpu.activate():
            gpu.xp.empty((1 << 30,), np.float64)


class Greedy(tinynet.Function):
    """Asks for more memory than there is, in the phase `Greedy.phase`."""

    phase = ""

    @staticmethod
    def ask(ctx: Any, phase: str) -> None:
        if Greedy.phase == phase:
            ctx.device.empty((1 << 20,), np.float64)  # activates the device again, without a name

    @staticmethod
    def forward(ctx: Any, scale: Any, x: Any) -> Any:
        Greedy.ask(ctx, "forward")
        return x.sum(axis=2)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        Greedy.ask(ctx, "backward")
        return None, None


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_out_of_memory_names_what_runs_and_its_batch(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    gpu = tinynet.device("cuda")
    machine.memory = 1 << 20
    monkeypatch.setattr(Greedy, "phase", phase)
    x = tinynet.tensor(np.ones((24, 3, 5), np.float32), device=gpu, requires_grad=True)
    scale = tinynet.tensor(np.ones(7, np.float32), device=gpu)  # one axis: no batch
    with pytest.raises(
        tinynet.OutOfMemoryError, match="Greedy asked for 8 MiB.*: of a batch of 24, at most"
    ):
        Greedy.apply(scale, x).backward(np.ones((24, 3), np.float32))


@pytest.mark.gpu
def test_a_real_gpu_that_runs_out_of_memory_goes_on_afterwards() -> None:
    gpu = tinynet.device("cuda")
    with pytest.raises(tinynet.OutOfMemoryError, match="cuda:0: .* asked for .* are free"):
        gpu.empty((1 << 45,), np.float32)
    assert (gpu.download(gpu.upload(np.ones(5))) == 1).all()


def test_cublas_and_pinned_memory_run_out(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    x = tinynet.tensor(np.ones((3, 3)), device=gpu)
    machine.cublas_memory = False
    with pytest.raises(tinynet.OutOfMemoryError, match="cuda:0: cuBLAS found no memory for its"):
        x @ x
    with pytest.raises(tinynet.OutOfMemoryError, match="cuda:1: cuBLAS found no memory for its"):
        tinynet.device("cuda:1")
    machine.pinned = 100
    with pytest.raises(tinynet.OutOfMemoryError, match="the host gives no 4 KiB of pinned memory"):
        for _ in range(5):
            tinynet.tensor(np.ones(1 << 12, np.uint8), device=gpu)
    machine.cublas_memory, machine.peers, machine.pinned = True, False, 1 << 20
    other, machine.pinned = tinynet.device("cuda:1"), 100
    with pytest.raises(tinynet.OutOfMemoryError, match="pinned memory"):
        x.to(other).to(gpu)


# --- no GPU, or not one that can be used: one clear line each ---


def refused(name: str = "cuda") -> str:
    with pytest.raises(tinynet.DeviceUnavailableError) as caught:
        tinynet.device(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_such_gpu(machine: fake_cupy.Machine) -> None:
    machine.gpus = 1
    assert refused("cuda:7") == "cuda:7: no such GPU; this machine has cuda:0"
    machine.gpus = 0
    assert "no CUDA-capable device" in refused("cuda:0")


def test_a_runtime_that_fails(machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> int:
        raise OSError("libcudart.so.13: cannot open shared object file")

    runtime = importlib.import_module("tinynet.devices.cuda").cupy.cuda.runtime
    monkeypatch.setattr(runtime, "runtimeGetVersion", failing)
    assert "cuda:1: CuPy finds no CUDA runtime (libcudart.so.13: cannot open" in refused("cuda:1")


def test_no_driver_and_an_old_driver(machine: fake_cupy.Machine) -> None:
    machine.driver = 0
    assert "no NVIDIA driver" in refused()
    machine.driver = 12040
    message = refused()
    assert (
        "CUDA 12.4" in message
        and "CUDA 13" in message
        and "pip install 'cupy-cuda12x[ctk]'" in message
    )


@pytest.mark.parametrize(
    "runtime, capability, advice",
    [
        (13020, "70", "pip uninstall -y cupy-cuda13x; pip install 'cupy-cuda12x[ctk]'"),
        (12090, "35", "it needs another GPU"),
    ],
)
def test_a_gpu_that_is_too_old_for_this_cuda(
    machine: fake_cupy.Machine, runtime: int, capability: str, advice: str
) -> None:
    machine.runtime, machine.compute_capability = runtime, capability
    machine.broken_library = "nvrtc: error: invalid value for --gpu-architecture (-arch)"
    message = refused()
    assert message.endswith(advice) and f"this one has {int(capability) / 10}" in message


def test_missing_cuda_libraries(machine: fake_cupy.Machine) -> None:
    for reason in (
        'Failure finding "libnvrtc.so.13": No such file',
        "Failed to find CUDA headers.\nSee the manual",
    ):
        machine.broken_library = reason
        message = refused()
        assert reason.splitlines()[0] in message and "pip install 'cupy-cuda13x[ctk]'" in message


@pytest.fixture
def hidden() -> Iterator[None]:
    fake_cupy.hide()
    yield
    fake_cupy.uninstall()


def without_cuda_module(
    monkeypatch: pytest.MonkeyPatch, wheels: dict[str, str], importing: Any
) -> None:
    def version(name: str) -> str:
        if name not in wheels:
            raise metadata.PackageNotFoundError(name)
        return wheels[name]

    real = importlib.import_module
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(
        importlib, "import_module", lambda name: importing() if name == "cupy" else real(name)
    )


def test_no_cupy(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing() -> None:
        raise ModuleNotFoundError("No module named 'cupy'", name="cupy")

    without_cuda_module(monkeypatch, {}, importing)
    with pytest.raises(tinynet.DeviceUnavailableError, match="CuPy is not installed"):
        tinynet.set_tf32(True)
    assert "CuPy is not installed" in refused() and "pip install 'cupy-cuda13x[ctk]'" in refused()


def test_cupy_without_what_it_needs(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing() -> None:
        raise ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")

    without_cuda_module(monkeypatch, {"cupy-cuda13x": "14.2.0"}, importing)
    assert refused() == "cuda: CuPy cannot be imported: No module named 'fastrlock'"


def test_two_wheels(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    without_cuda_module(
        monkeypatch, {"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.2.0"}, lambda: None
    )
    message = refused()
    assert (
        "cupy-cuda12x and cupy-cuda13x are both installed" in message and "pip uninstall" in message
    )


def test_the_wrong_wheel(hidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def importing() -> None:
        raise ImportError(
            "libcudart.so.11.0: cannot open shared object file\nlong advice\nmore advice"
        )

    without_cuda_module(monkeypatch, {"cupy-cuda11x": "13.0.0"}, importing)
    message = refused()
    assert (
        "cupy-cuda11x cannot be imported (libcudart.so.11.0" in message
        and "cupy-cuda13x[ctk]" in message
    )
