"""Named faults, of the kinds that people make, each a small change of the source. The tests must notice every one.

    python tests/mutation/catalogue.py [--jobs N] [NAME ...]

Prints which test noticed which fault, and how many were noticed. A fault whose text is no longer in the source is an error.
"""

# ruff: noqa: E501  (source text is quoted as it stands)

from __future__ import annotations

import argparse
import sys
import time

from runner import ROOT, Mutant, Result, run

# file below tinynet/: {name of the fault: (what stands there, what it becomes)}; the text must occur once
FAULTS: dict[str, dict[str, tuple[str, str]]] = {
    "kernels/im2col.py": {
        "col2im forgets that windows overlap": ("] += windows[:, i, j]", "] = windows[:, i, j]"),
        "col2im transposes the kernel": (
            "+= windows[:, i, j]",
            "+= windows[:, min(j, kh - 1), min(i, kw - 1)]",
        ),
        "padding of rows and columns exchanged": (
            "(ph, pw), (C, H, W, N) = padding, x.shape\n    if",
            "(pw, ph), (C, H, W, N) = padding, x.shape\n    if",
        ),
        "padding at the bottom is not cleared": (
            "padded[:, :ph] = padded[:, ph + H :] = 0",
            "padded[:, :ph] = 0",
        ),
        "padding at the right is not cleared": (
            "padded[:, ph : ph + H, :pw] = padded[:, ph : ph + H, pw + W :] = 0",
            "padded[:, ph : ph + H, :pw] = 0",
        ),
        "one window too few": ("(n + 2 * p - k) // s + 1 for", "(n + 2 * p - k - 1) // s + 1 for"),
        "padding on one side only": ("(n + 2 * p - k) // s + 1 for", "(n + p - k) // s + 1 for"),
        "stride of rows used for columns": (
            "h * stride[0], w * stride[1], n)",
            "h * stride[0], w * stride[0], n)",
        ),
        "col2im keeps the padding": (
            "return batch_first(dx[:, ph : ph + H,",
            "return batch_first(dx[:, 0 : H,",
        ),
    },
    "kernels/conv2d.py": {
        "groups: all outputs see the first input channels": (
            "col = _columns(padded[_group(C, groups, g)], kernel, stride, tile)\n        o =",
            "col = _columns(padded[_group(C, groups, 0)], kernel, stride, tile)\n        o =",
        ),
        "dw: group of x mistaken": (
            "col = _columns(padded[_group(C, groups, g)], kernel, stride, tile)\n            for",
            "col = _columns(padded[_group(C, groups, groups - 1 - g)], kernel, stride, tile)\n            for",
        ),
        "dx: group of weight mistaken": (
            "w = weight[_group(O, groups, g), channels]",
            "w = weight[_group(O, groups, 0), channels]",
        ),
        "bias of the first group for all": (
            "out += bias[o, None]",
            "out += bias[_group(O, groups, 0), None]",
        ),
        "bias forgotten": ("if bias is not None:", "if False:"),
        "ReLU before the bias": (
            "        if bias is not None:\n            out += bias[o, None]\n        if relu:\n            np.maximum(out, 0, out=out)",
            "        if relu:\n            np.maximum(out, 0, out=out)\n        if bias is not None:\n            out += bias[o, None]",
        ),
        "gradient of the ReLU forgotten": ("dy = relu_backward(dy, y)", "pass"),
        "dw: pieces not added up": ("total += product", "total[...] = product"),
        "dw: last lane forgotten": (
            "partial.sum(axis=0)",
            "partial[: max(1, len(partial) - 1)].sum(axis=0)",
        ),
        "dw: stale sums": ("total[...] = 0", "pass"),
        "dx: buffer not cleared": ("block[...] = 0", "pass"),
        "dx: cut without the padding": ("dx[:, ph : ph + H, pw : pw + W]", "dx[:, :H, :W]"),
        "dx: stride ignored": (
            "stride, rows.start, cols.start)",
            "(1, 1), rows.start, cols.start)",
        ),
        "dx: every piece starts at the top": (
            "stride, rows.start, cols.start)",
            "stride, 0, cols.start)",
        ),
        "dx: kernel turned by its columns alone": (
            "weight[:, :, ::-1, ::-1].reshape",
            "weight[:, :, :, ::-1].reshape",
        ),
        "dx: padding of forward": ("(kh - 1 - ph, kw - 1 - pw)", "(ph, pw)"),
        "dx: stride 1 without looking at the padding": (
            "stride == (1, 1) and ph < kh and pw < kw",
            "stride == (1, 1)",
        ),
        "db: mean instead of sum": ("db[o] = dy[o].sum()", "db[o] = dy[o].mean()"),
        "dx computed where dw is asked for": (
            "groups) if needs[0] else None",
            "groups) if needs[1] else None",
        ),
        "every piece reads the first rows": (
            ":, rows.start * sh : (rows.stop - 1) * sh + kh,",
            ":, : (rows.stop - rows.start - 1) * sh + kh,",
        ),
        "rows of outputs one row of the picture apart": (
            "(sh * kw * C * width * N * item,",
            "(kw * C * width * N * item,",
        ),
        "rows brought together for parts of rows": (
            "or width < (padded.shape[2] - kw) // sw + 1:",
            "or False:",
        ),
    },
    "kernels/winograd.py": {
        "the values at infinity are the first coefficients": ("np.eye(n)[-1]", "np.eye(n)[0]"),
        "B is not the inverse": ("np.linalg.inv(vandermonde(SIDE))", "vandermonde(SIDE)"),
        "B not transposed in dx": ("np.matmul(B.T, dV", "np.matmul(B, dV"),
        "channels of U and outputs exchanged in dx": (
            "np.matmul(U.swapaxes(1, 2), dM",
            "np.matmul(U.reshape(SIDE**2, C, O), dM",
        ),
        "bias at another point": ("M[SIDE + 1] += bias", "M[SIDE] += bias"),
        "bias forgotten": ("if bias is not None:", "if False:"),
        "ReLU forgotten": (
            "np.maximum(part, 0, out=place) if relu else np.copyto(place, part)",
            "np.copyto(place, part)",
        ),
        "rows and columns of a tile exchanged": (
            "rows.start * m + i : rows.stop * m : m,\n                cols.start * m + j :",
            "rows.start * m + j : rows.stop * m : m,\n                cols.start * m + i :",
        ),
        "outputs past the end not cleared": (
            "part[:, height:] = part[:, :height, width:] = 0",
            "pass",
        ),
        "pieces of dw not added up": ("dU += product", "dU[...] = product"),
        "lanes not added up": ("partial.sum(axis=0).T", "partial[0].T"),
        "dx: stale sums": ("sums[...] = 0", "pass"),
        "dx: cut without the padding": ("sums[:, ph : ph + H, pw : pw + W]", "sums[:, :H, :W]"),
        "dx: every piece starts at the top": (
            "(m, m), tiles[0].start, tiles[1].start)",
            "(m, m), 0, tiles[1].start)",
        ),
        "the last tiles have no inputs": ("-(n + 2 * p - r + 1) % m", "-(n + 2 * p - r) % m"),
        "used for a stride of 2": ("stride == (1, 1) and ", ""),
        "used for groups": (" and groups == 1", ""),
        "used for kernels that are not square": ("r == width and ", ""),
    },
    "kernels/max_pool2d.py": {
        "padding with zeros": ("y_.fill(-np.inf)", "y_.fill(0)"),
        "the last of equal values wins": (
            "np.minimum(winner_[outputs], candidate, out=winner_[outputs])",
            "np.copyto(winner_[outputs], candidate, where=candidate != nobody)",
        ),
        "gradients of overlapping windows lost": (
            "dx_[inputs] += select(",
            "dx_[inputs] = select(",
        ),
        "stale dx": ("dx[channels] = 0", "pass"),
        "ceil mode ignored": ("(-(-m // s) if ceil_mode else m // s) + 1", "m // s + 1"),
        "ceil mode keeps a window that begins in the padding": (
            "out.append(o - 1 if ceil_mode and (o - 1) * s >= n + p else o)",
            "out.append(o)",
        ),
        "ceil mode drops a window that begins inside": ("(o - 1) * s >= n + p", "(o - 1) * s >= n"),
        "window shifted by the padding twice": (
            "r = _inside(i - ph, sh",
            "r = _inside(i - 2 * ph, sh",
        ),
        "number of a position with kh for kw": ("yield i * kw + j", "yield i * kh + j"),
        "winners above 254 lost": (
            "np.min_scalar_type(kernel[0] * kernel[1])",
            "np.dtype(np.uint8)",
        ),
        "NaN hidden": ("np.maximum(y_[outputs], x_[inputs]", "np.fmax(y_[outputs], x_[inputs]"),
    },
    "kernels/avg_pool2d.py": {
        "count_include_pad the other way round": (
            "if count_include_pad else",
            "if not count_include_pad else",
        ),
        "padding beyond the end counts": (
            "stop = np.minimum(start + k, n + p)",
            "stop = start + k",
        ),
        "backward forgets overlap": (
            "dx_[inputs] += share[outputs]",
            "dx_[inputs] = share[outputs]",
        ),
        "forward keeps one pixel": ("y_[outputs] += x_[inputs]", "y_[outputs] = x_[inputs]"),
        "divisor transposed": (
            "return np.outer(*counts)",
            "return np.outer(*counts[::-1]).reshape(out)",
        ),
    },
    "kernels/local_response_norm.py": {
        "the cross-channel term of backward dropped": ("dx_ += sums", "pass"),
        "its sign": ("factor = x.dtype.type(-2 *", "factor = x.dtype.type(2 *"),
        "its factor two": ("(-2 * beta * alpha / size)", "(-beta * alpha / size)"),
        "its beta": ("(-2 * beta * alpha / size)", "(-2 * alpha / size)"),
        "alpha not divided by size": (
            "s *= x.dtype.type(alpha / size)",
            "s *= x.dtype.type(alpha)",
        ),
        "window of forward mirrored": (
            "window_sum(squares, size // 2, (size - 1) // 2",
            "window_sum(squares, (size - 1) // 2, size // 2",
        ),
        "window of backward not mirrored": (
            "window_sum(q, (size - 1) // 2, size // 2",
            "window_sum(q, size // 2, (size - 1) // 2",
        ),
        "window one channel short": (
            "for shift in range(1, before + 1)",
            "for shift in range(1, before)",
        ),
        "k taken for 1": ("s += x.dtype.type(k)", "s += 1"),
        "power of any beta by square roots": ("if beta != 0.75:", "if beta > 1:"),
        "wrong root": (
            "return np.multiply(out, root, out=out)",
            "return np.multiply(root, root, out=out)",
        ),
    },
    "kernels/spatial_response_norm.py": {
        "alpha divided by size once": (
            "s *= x.dtype.type(alpha / size**2)",
            "s *= x.dtype.type(alpha / size)",
        ),
        "the neighbours' term dropped": ("dx_ += sums", "pass"),
        "patch is a column": (
            "window_sum(rows.swapaxes(0, 1), before, after, out.swapaxes(0, 1))",
            "np.copyto(out, rows)",
        ),
        "patch of backward not mirrored": (
            "_patch_sum(q, (size - 1) // 2, size // 2",
            "_patch_sum(q, size // 2, (size - 1) // 2",
        ),
    },
    "kernels/relu.py": {
        "gradient at zero": ("select(y > 0, dy, out=dx)", "select(y >= 0, dy, out=dx)"),
        "gradient everywhere": ("select(y > 0, dy, out=dx)", "np.copyto(dx, dy)"),
        "in place into a copy": (
            "x, y: np.maximum(x, 0, out=y), x, out=out)",
            "x, y: np.maximum(x, 0, out=y), x)",
        ),
    },
    "kernels/layout.py": {
        "some pieces left out": ("for a in flat)), pieces)", "for a in flat)), pieces[1:])"),
        "batch axis in the wrong place": ("np.moveaxis(x, -1, 0)", "np.moveaxis(x, -1, 0)[::-1]"),
        "any layout taken for contiguous": ("if x.flags.c_contiguous:", "if True:"),
    },
    "kernels/dropout.py": {
        "backward forgets the mask": (
            "np.multiply(dy, mask, out=dx)",
            "np.copyto(dx, dy)",
        ),
        "scaled by p": ("1 / (1 - p) if p < 1", "1 / p if p < 1"),
        "not scaled": (
            "dx *= scale",
            "pass",
        ),
        "drops what it should keep": (
            "mask = lanes >= round(p * 65536)",
            "mask = lanes < round(p * 65536)",
        ),
        "elements numbered with the batch outermost": (
            "return batch_first(mask.reshape(shape[1:] + shape[:1]))",
            "return mask.reshape(shape)",
        ),
        "key in the other order": (
            "np.array([seed, call], np.uint64)",
            "np.array([call, seed], np.uint64)",
        ),
        "lanes from the highest": ('.view("<u2")[:count]', '.view(">u2")[:count]'),
    },
    "kernels/linear.py": {
        "bias added along the wrong axis": (
            "y += bias[:, None]",
            "y += bias[: y.shape[1]] if len(bias) >= y.shape[1] else bias[:, None]",
        ),
        "weight transposed in dx": ("matmul(weight.T, dy)", "matmul(weight.T[::-1], dy)"),
        "last block of a product left out": (
            "out=out[rows]), ranges(len(a), ROWS))",
            "out=out[rows]), ranges(len(a), ROWS)[: max(1, len(a) // ROWS)])",
        ),
        "dw and db exchanged": (
            "db = dy.sum(axis=1) if needs[2] else None",
            "db = dy.sum(axis=1) if needs[1] else None",
        ),
    },
    "kernels/softmax.py": {
        "overflows": ("y = np.exp(x - x.max(axis=axis, keepdims=True))", "y = np.exp(x)"),
        "backward without the sum": (
            "return y * (dy - (dy * y).sum(axis=axis, keepdims=True))",
            "return y * (1 - y) * dy",
        ),
        "sum along everything": ("y /= y.sum(axis=axis, keepdims=True)", "y /= y.sum()"),
        "log-softmax: exp forgotten in backward": ("dy - np.exp(y) * dy.sum", "dy - y * dy.sum"),
    },
    "kernels/cross_entropy.py": {
        "one-hot not subtracted": (
            "dlogits[np.arange(len(target)), target] -= (1 - e) * dlosses",
            "pass",
        ),
        "upstream gradient ignored": (
            "probabilities.reshape(-1, K) * dlosses[:, None]",
            "probabilities.reshape(-1, K).copy()",
        ),
        "probabilities overwritten": (
            "dlogits = probabilities.reshape(-1, K) * dlosses[:, None]",
            "dlogits = probabilities.reshape(-1, K)\n    dlogits *= dlosses[:, None]",
        ),
        "log of the largest forgotten": ("right = shifted[np", "right = logits[np"),
    },
    "kernels/sigmoid.py": {
        "backward of x": (
            "np.multiply(dy * y, 1 - y, out=dx)",
            "np.multiply(dy * y, 1 + y, out=dx)",
        ),
        "half": ("np.divide(x, 2, out=y)", "np.divide(x, 1, out=y)"),
    },
    "kernels/tanh.py": {"square forgotten": ("1 - y * y, out=dx", "1 - y, out=dx")},
    "kernels/steps/sgd.py": {
        "decay left out": ("step = np.multiply(w, d, out=", "step = np.multiply(w, 0 * d, out="),
        "rate outside the velocity": (
            "step *= lr\n        v *= m\n        v -= step\n        w += v",
            "v *= m\n        v -= step\n        w += lr * v",
        ),
        "momentum after the step": ("v *= m\n        v -= step", "v -= step\n        v *= m"),
        "velocity added before it is new": (
            "v -= step\n        w += v",
            "w += v\n        v -= step",
        ),
        "decay not scaled by the rate": ("step += g\n        step *= lr", "step += lr * g"),
    },
    "kernels/pictures.py": {
        "flip ignored": ("out=d[:, ::-1] if flip[n] else d", "out=d"),
        "flipped top to bottom": ("out=d[:, ::-1] if", "out=d[::-1] if"),
        "colour after the scale": ("difference *= np.float32(scale)\n", ""),
        "top and left exchanged": ("t, l = (top[n], left[n])", "l, t = (top[n], left[n])"),
    },
    "arithmetic.py": {
        "gradient not summed over a broadcast axis": (
            "if n == 1 and grad.shape[i + extra] != 1",
            "if False",
        ),
        "gradient not summed over new axes": (
            "axes = tuple(range(extra)) + tuple(",
            "axes = tuple(range(0)) + tuple(",
        ),
        "sub: sign of b": ("unbroadcast(-dy, b) if need_b", "unbroadcast(dy, b) if need_b"),
        "mul: factors exchanged": (
            "unbroadcast(dy * b, a.shape) if need_a",
            "unbroadcast(dy * a, a.shape) if need_a",
        ),
        "div: square forgotten": ("-dy * a / (b * b)", "-dy * a / b"),
        "pow: exponent not lowered": ("x ** (ctx.p - 1)", "x ** ctx.p"),
        "pow: 0 to the 0": (" if ctx.p != 0 else ctx.xp.zeros_like(dy)", ""),
        "exp: its own gradient forgotten": ("return dy * y\n", "return dy\n"),
        "maximum: both get all of a tie": ("half = dy / 2", "half = dy"),
        "matmul: a not transposed": (
            "matmul(a2.swapaxes(-1, -2), dy)",
            "matmul(a2.swapaxes(-1, -2)[..., ::-1, :], dy)",
        ),
        "max: ties count twice": (
            "dy.reshape(y.shape) / won.sum(axis=ctx.axes, keepdims=True)",
            "dy.reshape(y.shape)",
        ),
        "transpose: axes not inverted": (
            "dy.transpose(np.argsort(ctx.axes).tolist())",
            "dy.transpose(ctx.axes)",
        ),
        "index: an element taken twice gets one gradient": (
            "ctx.xp.add.at(dx, ctx.key, dy)",
            "dx[ctx.key] = dy",
        ),
        "concat: parts in the wrong places": (
            "np.cumsum(ctx.sizes)[:-1]",
            "np.cumsum(ctx.sizes[::-1])[:-1]",
        ),
        "mean: the sum": ("return sum(x, axis, keepdims) / count", "return sum(x, axis, keepdims)"),
        "operands of 1 - x exchanged": ('"__rsub__": lambda b, a: sub(a, b)', '"__rsub__": sub'),
        "the gradient of a copy stays away": (
            "return ctx.device.copy_from(dy, ctx.output_device), None",
            "return dy * 0, None",
        ),
    },
    "tensor.py": {
        "oldest node first": (
            "heapq.heappush(queue, (-source.number, source))",
            "heapq.heappush(queue, (source.number, source))",
        ),
        "gradients of a shared node not added": (
            "functools.reduce(operator.add, parts)",
            "parts[-1]",
        ),
        "gradients of a leaf not added": (
            "if leaf.grad is None else leaf.grad.data + grad",
            "if leaf.grad is None else grad",
        ),
        "gradients shared between leaves": (
            "own=not _shares_memory(source.device.xp, g, others)",
            "own=True",
        ),
        "deep copy shares memory": ("twin.data = self.data.copy()", "twin.data = self.data"),
        "a moved leaf's gradient stays": ("self.grad.move(device)", "pass"),
        "no_grad never ends": ("_local.grad_enabled = self.before", "_local.grad_enabled = False"),
        "no_grad ends early": ("_local.grad_enabled = self.before", "_local.grad_enabled = True"),
        "a matrix taken for a scalar": (
            "if y.size != 1:",
            "if False:",
        ),
        "saved arrays are kept": ("node.context, node.inputs = None, ()", "pass"),
        "tensor() does not copy": ("array = where.upload(array)", "pass"),
    },
    "function.py": {
        "saved even when nobody needs them": ("if any(self.needs_input_grad):", "if True:"),
        "changes in place go unnoticed": ("if _mark(array) != mark:", "if False:"),
        "only the start of an array is looked at": (
            "array.flat[:: max(1, array.size // SAMPLES)]",
            "array.flat[:1]",
        ),
        "mixed devices pass": ("if any(t.device is not device for t in tensors):", "if False:"),
        "missing gradients of outputs are not zeros": (
            "grads[i] = ctx.xp.zeros(shape, dtype)",
            "grads[i] = ctx.xp.ones(shape, dtype)",
        ),
        "wrong shapes of gradients pass": ("if g.shape != shape:", "if False:"),
        "gradients keep another dtype": ("grads[i] = g.astype(dtype, copy=False)", "grads[i] = g"),
        "gradients of tensors that asked for none": (
            "if g is None or not ctx.needs_input_grad[i]:",
            "if g is None:",
        ),
    },
    "functional/activation.py": {
        "relu saves x": (
            "y = ctx.kernels.relu_forward(x, out=x if inplace else None)\n        ctx.save_for_backward(y)",
            "y = ctx.kernels.relu_forward(x, out=x if inplace else None)\n        ctx.save_for_backward(-y)",
        ),
        "softmax along the last axis always": (
            "y = ctx.kernels.softmax_forward(x, axis)",
            "y = ctx.kernels.softmax_forward(x, x.ndim - 1)",
        ),
    },
    "functional/losses.py": {
        "cross-entropy: sum for mean": (
            'losses.mean() if reduction == "mean"',
            'losses.sum() if reduction == "mean"',
        ),
        "targets beyond the classes pass": (
            "0 <= labels.min() <= labels.max() < K",
            "0 <= labels.min()",
        ),
    },
    "functional/pooling.py": {
        "pooling stride 1 by default": (
            "stride = kernel if stride is None",
            "stride = (1, 1) if stride is None",
        ),
    },
    "functional/regularization.py": {
        "dropout in use": ("if training and p > 0 else x", "if p > 0 else x"),
        "dropout: the same mask every time": ("*random.next_call())", "7, 7)"),
    },
    "functional/shape.py": {
        "pad: last axis first forgotten": ("strict=True)\n    )[::-1]", "strict=True)\n    )"),
        "pad: gradient of the border": ("slice(before, before + n)", "slice(0, n)"),
    },
    "optim/sgd.py": {
        "the group's momentum ignored": (
            'rate, group["momentum"], group["weight_decay"]',
            'rate, 0.9, group["weight_decay"]',
        ),
    },
    "optim/optimizer.py": {
        "the group's rate ignored": ('rate = self.lr * group["lr_scale"]', "rate = self.lr"),
        "velocity stays on the old device": (
            "tensor.move(p.device)",
            "pass",
        ),
        "velocities loaded without a copy": (
            'value = p.device.upload(np.asarray(state[name], p.dtype, order="C"))',
            'value = np.asarray(state[name], p.dtype, order="C")',
        ),
        "gradients not forgotten": ("p.zero_grad()", "pass"),
    },
    "optim/lr_scheduler.py": {
        "milestone one epoch late": ("milestone <= epoch", "milestone < epoch"),
        "rates multiplied on": (
            "self.min_lr + (self.first_lr - self.min_lr) * self.factor(epoch)",
            "self.min_lr + (self.optimizer.lr - self.min_lr) * self.factor(epoch)",
        ),
        "patience one epoch short": (
            "if self.waited > self.patience:",
            "if self.waited >= self.patience:",
        ),
        "waiting not begun again": ("self.best, self.waited = error, 0", "self.best = error"),
        "below the least rate": (
            "max(lr / self.factor, self.min_lr)",
            "lr / self.factor",
        ),
    },
    "nn/module.py": {
        "a shared parameter twice": (
            "if id(part) in parts:",
            "if False:",
        ),
        "half loaded before it refuses": ("if missing or unexpected:", "if missing:"),
        "modules in lists not found": (
            "isinstance(value, (list, tuple, dict))",
            "isinstance(value, (tuple, dict))",
        ),
        "eval reaches the top only": (
            "for module in self.modules():\n            module.training = mode",
            "self.training = mode",
        ),
    },
    "nn/init.py": {
        "fans exchanged": (
            "return shape[1] * kernel, shape[0] * kernel",
            "return shape[0] * kernel, shape[1] * kernel",
        ),
        "kernel not counted": ("kernel = math.prod(shape[2:])", "kernel = 1"),
        "variance for sigma": (
            "normal(math.sqrt(2 / fans(shape)[0]))",
            "normal(2 / fans(shape)[0])",
        ),
    },
    "random.py": {
        "every draw the same": ("_calls += 1", "pass"),
        "the seed does not begin anew": ("_seed, _calls = int(n), 0", "_seed = int(n)"),
    },
    "devices/threads.py": {
        "an error in a helper is swallowed": (
            "        if error is not None:\n            raise error",
            "        pass",
        ),
        "BLAS with all its threads": ("with one_blas_thread():", "if True:"),
    },
    "devices/scratch.py": {
        "scratch shared by all threads": ("class Scratch(threading.local):", "class Scratch:"),
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="faults whose 'file: name' contains this (default: all)",
    )
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    mutants = []
    for file, faults in FAULTS.items():
        source = (ROOT / "tinynet" / file).read_text()
        for name, (old, new) in faults.items():
            if source.count(old) != 1:
                print(
                    f"{file}: {name}: expected the text once, found it {source.count(old)} times: {old}"
                )
                return 2
            if not arguments.names or any(part in f"{file}: {name}" for part in arguments.names):
                mutants.append(Mutant(f"{file}: {name}", file, source.replace(old, new)))
    start = time.monotonic()

    def report(result: Result) -> None:
        print(f"{result.mutant.name:<78} {result.killer or 'NOBODY NOTICED'}", flush=True)

    results = run(mutants, arguments.jobs, report)
    killed = sum(bool(r.killer) for r in results)
    print(f"{killed} of {len(results)} faults noticed, {time.monotonic() - start:.0f} s")
    return 0 if killed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
