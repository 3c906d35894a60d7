"""Where arrays live and kernels run: CPUs and GPUs by name, their memory, threads, streams.

Nothing here knows a kernel: those above hand theirs over (`register`, tinynet/kernels/backends.py).
"""

from tinynet.devices.base import Device, find_device, memory_stats, register, set_tf32
from tinynet.devices.memory import MemoryStats

__all__ = ["Device", "MemoryStats", "find_device", "memory_stats", "register", "set_tf32"]
