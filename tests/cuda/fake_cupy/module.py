"""The modules cupy and cupyx: what is not written here is NumPy's, on the stand-in's arrays."""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from fake_cupy import creation, memory, streams
from fake_cupy.arrays import call, ndarray, new, plain
from fake_cupy.blas import Blas
from fake_cupy.kernels import RawKernel
from fake_cupy.machine import CUDARuntimeError, FakeOutOfMemoryError, machine


def _runtime() -> types.SimpleNamespace:
    def count() -> int:
        if machine.gpus == 0:
            raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")
        return machine.gpus

    return types.SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: machine.driver,
        runtimeGetVersion=lambda: machine.runtime,
        getDeviceCount=count,
        getDevice=streams.current_gpu,
        deviceCanAccessPeer=lambda device, peer: int(
            machine.peers and (machine.peers_lie or (peer, device) not in machine.no_way)
        ),
        memGetInfo=lambda: (machine.memory - machine.held[streams.current_gpu()], machine.memory),
        getDeviceProperties=lambda index: {
            "name": b"Stand-in",
            "l2CacheSize": 1 << 20,
            "multiProcessorCount": 1,
        },
    )


class _Module(types.ModuleType):
    """Any other function is NumPy's, on the stand-in's arrays."""

    def __getattr__(self, name: str) -> Any:
        if name == "argsort":
            return lambda a: call(
                lambda v: np.argsort(v, kind="stable"), name, (a,), {}, fresh=True
            )
        function = getattr(np, name, None)
        if function is None or name.startswith("_"):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        if isinstance(function, type) or not callable(function):
            return function
        if isinstance(function, np.ufunc):
            return _Ufunc(function)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            machine.used_names.add(name)
            if function is np.may_share_memory:
                return function(*plain(args))
            out = kwargs.pop("out", None)
            return call(function, name, args, kwargs, out=out)

        return wrapped


class _Ufunc:
    def __init__(self, ufunc: np.ufunc):
        self.ufunc = ufunc
        machine.used_names.add(ufunc.__name__)

    def __call__(self, *args: Any, out: ndarray | None = None, **kwargs: Any) -> Any:
        return call(self.ufunc, self.ufunc.__name__, args, kwargs, out=out)


def modules() -> dict[str, types.ModuleType]:
    """What `import cupy` and `import cupyx` are to find."""
    cupy, cupyx = _Module("cupy"), types.ModuleType("cupyx")
    own = dict(
        __version__="0 (stand-in)", ndarray=ndarray, RawKernel=RawKernel, empty=new,
        array=creation.asarray, asarray=creation.asarray, asnumpy=creation.asnumpy,
        ascontiguousarray=creation.ascontiguousarray, concatenate=creation.concatenate,
        take_along_axis=creation.take_along_axis,
        zeros=lambda shape, dtype=float: creation.filled(0, shape, dtype),
        ones=lambda shape, dtype=float: creation.filled(1, shape, dtype),
        full=lambda shape, value, dtype=float: creation.filled(value, shape, dtype),
        zeros_like=lambda a: creation.filled(0, a.shape, a.dtype),
        empty_like=lambda a: new(a.shape, a.dtype),
        arange=lambda *a, dtype=None: creation.asarray(np.arange(*a, dtype=dtype)),
    )  # fmt: skip
    vars(cupy).update(own)
    tricks = types.SimpleNamespace(as_strided=creation.as_strided)
    cupy.lib = types.SimpleNamespace(stride_tricks=tricks)
    cupy.cuda = types.SimpleNamespace(
        Device=streams.Device, Stream=streams.Stream, Event=streams.Event,
        MemoryPool=memory.MemoryPool, set_allocator=memory.set_allocator, runtime=_runtime(),
        cublas=Blas(), memory=types.SimpleNamespace(OutOfMemoryError=FakeOutOfMemoryError),
        get_current_stream=streams.current_stream, get_elapsed_time=lambda start, end: 1.0,
    )  # fmt: skip
    cupyx.empty_pinned = memory.empty_pinned
    return dict(cupy=cupy, cupyx=cupyx)
