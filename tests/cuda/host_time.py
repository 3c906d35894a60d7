"""How long a paper step at batch 128 keeps the host: python tests/cuda/host_time.py

Our code and CuPy's own arrays, on real CuPy without a driver: what a driver would do costs nothing
here. That is some 2 us for each launch and each product, and is added in the last line.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
import real_cupy  # noqa: E402
from test_real_cupy import PaperStep  # noqa: E402

STEPS, LAUNCHES, DRIVER = 300, 187, 2e-6  # seconds a launch


def main() -> None:
    with pytest.MonkeyPatch.context() as patch:
        step = PaperStep(real_cupy.install(patch, idle=True))
        for _ in range(5):
            step()
        times = []
        for _ in range(STEPS):
            start = time.process_time()
            step()
            times.append(1e3 * (time.process_time() - start))
        real_cupy.uninstall()
    times.sort()
    print(f"{times[0]:.2f} ms the shortest of {STEPS} steps, {times[STEPS // 2]:.2f} ms the median")
    print(f"{times[0] + 1e3 * LAUNCHES * DRIVER:.2f} ms with {LAUNCHES} operations of a driver")


if __name__ == "__main__":
    main()
