"""Faults in modules and layers."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "nn/module.py": {
        "a shared parameter twice": ("if id(part) in parts:", "if False:"),
        "half loaded before it refuses": ("if missing or unexpected:", "if missing:"),
        "modules in lists not found": ("isinstance(value, (list, tuple, dict))", "isinstance(value, (tuple, dict))"),
        "eval reaches the top only": ("for module in self.modules():\n            module.training = mode", "self.training = mode"),
    },
    "nn/init.py": {
        "fans exchanged": ("return shape[1] * kernel, shape[0] * kernel", "return shape[0] * kernel, shape[1] * kernel"),
        "kernel not counted": ("kernel = math.prod(shape[2:])", "kernel = 1"),
        "variance for sigma": ("normal(math.sqrt(2 / fans(shape)[0]))", "normal(2 / fans(shape)[0])"),
    },
}
