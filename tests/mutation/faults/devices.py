"""Faults in devices, memory, threads."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "devices/threads.py": {
        "an error in a helper is swallowed": ("        if error is not None:\n            raise error", "        pass"),
        "BLAS with all its threads": ("with one_blas_thread():", "if True:"),
    },
    "devices/scratch.py": {
        "scratch shared by all threads": ("class Scratch(threading.local):", "class Scratch:"),
    },
}
