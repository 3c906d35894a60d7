"""Faults in the operations that a user calls."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "functional/activation.py": {
        "relu saves x": ("y = ctx.kernels.relu_forward(x, out=x if inplace else None)\n        ctx.save_for_backward(y)", "y = ctx.kernels.relu_forward(x, out=x if inplace else None)\n        ctx.save_for_backward(-y)"),
        "softmax along the last axis always": ("y = ctx.kernels.softmax_forward(x, axis)", "y = ctx.kernels.softmax_forward(x, x.ndim - 1)"),
        "relu in place is refused under no_grad as well": (" and x.node is None and is_grad_enabled():", " and x.node is None:"),
    },
    "functional/losses.py": {
        "an x and a target of one size but two shapes pass": ("    if x.shape != target.shape:\n        raise ValueError(\n            f\"{operation}: expected {name} and target of one shape", "    if x.size != target.size:\n        raise ValueError(\n            f\"{operation}: expected {name} and target of one shape"),
        "cross-entropy: sum for mean": ("losses.mean() if reduction == \"mean\"", "losses.sum() if reduction == \"mean\""),
        "targets beyond the classes pass": ("0 <= labels.min() <= labels.max() < K", "0 <= labels.min()"),
        "the worst target is the largest": ("worst = labels.min() if labels.min() < 0 else labels.max()", "worst = labels.max()"),
        "targets on the GPU are checked, which waits": ("if not isinstance(target, Tensor) or target.device.kind == \"cpu\":", "if True:"),
        "all of the target may not be spread": ("if not 0 <= e <= 1:", "if not 0 <= e < 1:"),
        "classes may be booleans": ("if target.shape != rows or target.dtype.kind not in \"iu\":", "if target.shape != rows or target.dtype.kind not in \"iub\":"),
        "no target has no least": ("        and labels.size\n        and not 0", "        and not 0"),
        "targets that are tensors on the CPU are not looked at": ("    if not isinstance(target, Tensor) or target.device.kind == \"cpu\":", "    if not isinstance(target, Tensor):"),
        "nll_loss: classes kept in a byte": ("        ctx.save_for_backward(x, target)\n        return ctx.kernels.nll_loss_forward(x, target)", "        ctx.save_for_backward(x, target.astype('uint8'))\n        return ctx.kernels.nll_loss_forward(x, target)"),
        "cross_entropy: classes kept in a byte": ("ctx.save_for_backward(probabilities, target)", "ctx.save_for_backward(probabilities, target.astype('uint8'))"),
        "cross_entropy: classes kept in two bytes": ("ctx.save_for_backward(probabilities, target)", "ctx.save_for_backward(probabilities, target.astype('uint16'))"),
    },
    "functional/pooling.py": {
        "pooling stride 1 by default": ("stride = kernel if stride is None", "stride = (1, 1) if stride is None"),
        "a stride of 0 is the kernel's": ("stride = kernel if stride is None else", "stride = kernel if not stride else"),
        "windows that hang over are too few": ("stride, padding, bool(ceil_mode))) < 1:", "stride, padding, False)) < 1:"),
        "padding may be as large as the kernel": ("if any(2 * p > k for", "if any(p > k for"),
        "padding below half the kernel": ("if any(2 * p > k for", "if any(2 * p >= k for"),
        "winners of large windows kept in a byte": ("        ctx.save_for_backward(winner)\n", "        ctx.save_for_backward(winner.astype(\"uint8\", copy=False))\n"),
    },
    "functional/regularization.py": {
        "dropout in use": ("    if training:\n        share", "    if True:\n        share"),
        "dropout: the same mask every time": ("*random.next_call(), inverted, **rows)", "0, 1, inverted, **rows)"),
        "dropout: rows of another count": ("share.rows(\"dropout\", len(x))", "share.rows(\"dropout\", len(x) - 1)"),
        "dropout: the form of 2012 is not scaled in use": ("return x if inverted else x * (1 - p)", "return x"),
        "dropout: scaled by p in use": ("x * (1 - p)", "x * p"),
        "a share of rows is drawn for these rows alone": ("if share and x.shape:", "if share and not x.shape:"),
        "no dropout draws a mask": ("    if p == 0:\n        return x\n    if training:", "    if training:"),
    },
    "functional/shape.py": {
        "pad: last axis first forgotten": ("strict=True)\n    )[::-1]", "strict=True)\n    )"),
        "pad: gradient of the border": ("slice(before, before + n)", "slice(0, n)"),
        "the border is 0": ("return Pad.apply(x, pairs, value)", "return Pad.apply(x, pairs, 0.0)"),
        "whole numbers padded by a half": ("if not least <= value <= most or value % 1:", "if not least <= value <= most:"),
        "an odd number of widths": ("    if len(widths) % 2 or not 2 <= len(widths) <= 2 * x.ndim:", "    if not 2 <= len(widths) <= 2 * x.ndim:"),
    },
    "functional/attention.py": {
        "a mask is checked before causal is added": ("    if causal:\n        below = np.tri(T, S, dtype=bool)\n        mask = below if mask is None else mask & below\n", "", "    if mask is not None and mask.ndim == 3:\n", "    if causal:\n        below = np.tri(T, S, dtype=bool)\n        mask = below if mask is None else mask & below\n    if mask is not None and mask.ndim == 3:\n"),
        "a mask makes attention look ahead": ("mask = below if mask is None else mask & below", "mask = below if mask is None else mask"),
        "one query that sees something is enough": ("not seen.any(axis=-1).all():", "not seen.any():"),
        "a tensor of tokens on another device is taken as it is": ("if isinstance(tokens, Tensor) and tokens.device == weight.device:", "if isinstance(tokens, Tensor):"),
        "a mask for each picture is for each head": ("mask = mask[:, None]  # the same for all heads", "mask = mask[None]  # the same for all heads"),
        "the mask is looked through before causal": ("    if causal:\n        below = np.tri(T, S, dtype=bool)\n        mask = below if mask is None else mask & below\n    seen = mask.numpy() if isinstance(mask, Tensor) else mask\n", "    seen = mask.numpy() if isinstance(mask, Tensor) else mask\n    if causal:\n        below = np.tri(T, S, dtype=bool)\n        mask = below if mask is None else mask & below\n"),
        "values of another batch": ("if k.shape != (N, S, D) or len(v) != N or S < 1:", "if k.shape != (N, S, D) or S < 1:"),
        "no token at all": ("    if numbers.size and not 0", "    if not 0"),
    },
    "functional/convolution.py": {
        "conv_transpose2d takes pictures of any rank": ("    checks.rank(where, \"x\", x, \"(N, C, H, W)\")\n    checks.rank(where, \"weight\", weight, \"(C, O/groups, kh, kw)\")\n", "    checks.rank(where, \"weight\", weight, \"(C, O/groups, kh, kw)\")\n"),
        "each: gradients of x added the oldest first": ("add_up([*dxs[::-1]], ctx.device)", "add_up([*dxs], ctx.device)"),
        "transpose: output_padding as large as the stride": ("if any(e >= s for e, s", "if any(e > s for e, s"),
        "each: the dtypes and shapes of the first weight alone are checked": ("options = _checked(where, x, weight, bias, stride, padding, groups, 1)", "options = _checked(where, x, weights[0], biases[0], stride, padding, groups, 1)"),
        "dilation: an input without gradient": ("if ctx.apart and dx is not None else dx", "if ctx.apart else dx"),
        "what fits without dilation fits": ("min(output_size((H, W), wide, stride, padding)) < 1", "min(output_size((H, W), (kh, kw), stride, padding)) < 1"),
        "transpose: weight gradient only with the input's": ("        if ctx.needs_input_grad[1]:\n            needs = False", "        if ctx.needs_input_grad[0] and ctx.needs_input_grad[1]:\n            needs = False"),
        "kernels that groups do not divide": ("    if O % groups:\n", "    if O < groups:\n"),
        "transposed: groups need not divide the channels": ("    if C != C_weight or C % groups:", "    if C != C_weight:"),
        "conv2d_each compares the last kernel alone": ("        if weight.shape[2:] != weights[0].shape[2:]:\n            raise ValueError(\n                f\"{where}: expected kernels of one size, got {weights[0].shape} and {weight.shape}\"\n            )\n", "    if weight.shape[2:] != weights[0].shape[2:]:\n        raise ValueError(\n            f\"{where}: expected kernels of one size, got {weights[0].shape} and {weight.shape}\"\n        )\n"),
        "conv_transpose2d: output_padding beside the larger stride": ("    if any(e >= s for e, s in zip(extra, stride, strict=True)):", "    if max(extra) >= max(stride):"),
    },
    "functional/normalization.py": {
        "batch_norm: one picture is too few": ("if training and N * prod(rest) < 2:", "if training and N < 2:"),
        "layer_norm: eps forgotten": ("return LayerNorm.apply(x, weight, bias, len(shape), eps)", "return LayerNorm.apply(x, weight, bias, len(shape), 1e-5)"),
        "batch_norm: ranks count in use": ("share = sharing.current() if training else None", "share = sharing.current()"),
        "one running array is enough": ("    if len(missing) == 1 or (missing and not training):", "    if missing and not training:"),
        "layer norm: a weight that broadcasts": ("        if t is not None and t.shape != shape:\n            raise ValueError(f\"layer_norm", "        if t is not None and t.shape[-1:] != shape[-1:]:\n            raise ValueError(f\"layer_norm"),
    },
    "functional/checks.py": {
        "True is an integer": ("if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:", "if not isinstance(value, (int, np.integer)) or value < least:"),
        "a probability of 1 is none": ("if not 0 <= p <= 1:", "if not 0 <= p < 1:"),
        "True is a number": ("        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):", "        if not isinstance(value, (int, float, np.integer, np.floating)):"),
    },
    "functional/affine.py": {
        "a bias with more axes is not refused": ("bias.shape != weight.shape[:1]", "bias.shape[-1:] != weight.shape[:1]"),
        "a bias of the right size and the wrong shape": ("bias.shape != weight.shape[:1]:", "bias.size != weight.shape[0]:"),
    },
}
