"""GPUs through CuPy.

Every logical device has a lane: streams of its own, cuBLAS of its own (lane.py). Launches only
queue work there and return; nothing waits for the GPU but `download`, `synchronize`, and whoever
reads a number. Three rules keep a stream from reading what is not yet written:

1. Work for a device is launched inside `device.activate()`. So it runs on the device's stream, one
   launch after the other.
2. A copy between devices runs on the receiver's copy stream (copies.py): after all that both
   devices had queued so far, and before whatever either of them queues next. The second half
   matters as much: CuPy's memory pool hands a freed block to the next request of the same stream,
   and knows nothing of a copy elsewhere that still reads it (memory.py).
3. The waits of rule 2 are queued when a device is next activated for anything but a copy, not at
   once. So two devices that swap their halves copy both ways at the same time: neither copy waits
   for the other.

`cuda:0,cuda:0` is a pair of two logical devices on one GPU (`twin`), and runs the same code as two
GPUs.
"""

from tinynet.devices.cuda.device import CudaDevice
from tinynet.devices.cuda.installation import cupy
from tinynet.devices.cuda.lane import current_lane

__all__ = ["CudaDevice", "cupy", "current_lane"]
