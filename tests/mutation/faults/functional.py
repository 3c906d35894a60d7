"""Faults in the operations that a user calls."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "functional/activation.py": {
        "relu saves x": ("y = ctx.kernels.relu_forward(x, out=x if inplace else None)\n        ctx.save_for_backward(y)", "y = ctx.kernels.relu_forward(x, out=x if inplace else None)\n        ctx.save_for_backward(-y)"),
        "softmax along the last axis always": ("y = ctx.kernels.softmax_forward(x, axis)", "y = ctx.kernels.softmax_forward(x, x.ndim - 1)"),
    },
    "functional/losses.py": {
        "cross-entropy: sum for mean": ("losses.mean() if reduction == \"mean\"", "losses.sum() if reduction == \"mean\""),
        "targets beyond the classes pass": ("0 <= labels.min() <= labels.max() < K", "0 <= labels.min()"),
    },
    "functional/pooling.py": {
        "pooling stride 1 by default": ("stride = kernel if stride is None", "stride = (1, 1) if stride is None"),
    },
    "functional/regularization.py": {
        "dropout in use": ("    if training:\n        share", "    if True:\n        share"),
        "dropout: the same mask every time": ("*random.next_call(), inverted, **rows)", "0, 1, inverted, **rows)"),
        "dropout: rows of another count": ("share.rows(\"dropout\", len(x))", "share.rows(\"dropout\", len(x) - 1)"),
        "dropout: the form of 2012 is not scaled in use": ("return x if inverted else x * (1 - p)", "return x"),
        "dropout: scaled by p in use": ("x * (1 - p)", "x * p"),
    },
    "functional/shape.py": {
        "pad: last axis first forgotten": ("strict=True)\n    )[::-1]", "strict=True)\n    )"),
        "pad: gradient of the border": ("slice(before, before + n)", "slice(0, n)"),
    },
}
