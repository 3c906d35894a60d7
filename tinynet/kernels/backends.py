"""Which kernels run on which kind of device: each kind is registered here with its kernels."""

from __future__ import annotations

from types import ModuleType

from tinynet import kernels
from tinynet.devices import Device, register
from tinynet.devices.cpu import CpuDevice


def cpu() -> tuple[type[Device], ModuleType]:
    """The CPU, and the kernels on NumPy arrays."""
    return CpuDevice, kernels


def cuda() -> tuple[type[Device], ModuleType]:
    """GPUs, and the kernels on CuPy arrays. DeviceUnavailableError where there is no CuPy."""
    from tinynet.devices.cuda import CudaDevice  # here, because it imports CuPy
    from tinynet.kernels import cuda as kernels_on_gpus

    return CudaDevice, kernels_on_gpus


register("cpu", cpu)
register("cuda", cuda)
