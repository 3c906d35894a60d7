"""Faults in the tape and the arithmetic."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "arithmetic/operands.py": {
        "gradient not summed over a broadcast axis": ("if n == 1 and grad.shape[i + extra] != 1", "if False"),
        "gradient not summed over new axes": ("axes = tuple(range(extra)) + tuple(", "axes = tuple(range(0)) + tuple("),
    },
    "arithmetic/binary.py": {
        "sub: sign of b": ("unbroadcast(-dy, b) if need_b", "unbroadcast(dy, b) if need_b"),
        "div: square forgotten": ("-dy * a / (b * b)", "-dy * a / b"),
        "pow: exponent not lowered": ("x ** (ctx.p - 1)", "x ** ctx.p"),
        "pow: 0 to the 0": ("if ctx.p != 0 else ctx.xp.zeros_like(dy)", ""),
        "matmul: a not transposed": ("matmul(a2.swapaxes(-1, -2), dy)", "matmul(a2.swapaxes(-1, -2)[..., ::-1, :], dy)"),
    },
    "arithmetic.py": {
        "mul: factors exchanged": ("unbroadcast(dy * b, a.shape) if need_a", "unbroadcast(dy * a, a.shape) if need_a"),
        "exp: its own gradient forgotten": ("return dy * y\n", "return dy\n"),
        "maximum: both get all of a tie": ("half = dy / 2", "half = dy"),
        "max: ties count twice": ("dy.reshape(y.shape) / won.sum(axis=ctx.axes, keepdims=True)", "dy.reshape(y.shape)"),
        "index: an element taken twice gets one gradient": ("ctx.xp.add.at(dx, ctx.key, dy)", "dx[ctx.key] = dy"),
        "mean: the sum": ("return sum(x, axis, keepdims) / count", "return sum(x, axis, keepdims)"),
        "operands of 1 - x exchanged": ("\"__rsub__\": lambda b, a: sub(a, b)", "\"__rsub__\": sub"),
    },
    "arithmetic/shapes.py": {
        "transpose: axes not inverted": ("dy.transpose(np.argsort(ctx.axes).tolist())", "dy.transpose(ctx.axes)"),
        "concat: parts in the wrong places": ("np.cumsum(ctx.sizes)[:-1]", "np.cumsum(ctx.sizes[::-1])[:-1]"),
        "the gradient of a copy stays away": ("return ctx.device.copy_from(dy, ctx.output_device), None", "return dy * 0, None"),
    },
    "tape.py": {
        "oldest node first": ("heapq.heappush(queue, (-source.number, source))", "heapq.heappush(queue, (source.number, source))"),
    },
    "tensor.py": {
        "gradients of a shared node not added": ("functools.reduce(operator.add, parts)", "parts[-1]"),
        "gradients of a leaf not added": ("if leaf.grad is None else leaf.grad.data + grad", "if leaf.grad is None else grad"),
        "gradients shared between leaves": ("own=not _shares_memory(source.device.xp, g, others)", "own=True"),
        "deep copy shares memory": ("twin.data = self.data.copy()", "twin.data = self.data"),
        "a moved leaf's gradient stays": ("self.grad.move(device)", "pass"),
        "no_grad never ends": ("_local.grad_enabled = self.before", "_local.grad_enabled = False"),
        "no_grad ends early": ("_local.grad_enabled = self.before", "_local.grad_enabled = True"),
        "a matrix taken for a scalar": ("if y.size != 1:", "if False:"),
        "saved arrays are kept": ("node.context, node.inputs = None, ()", "pass"),
        "tensor() does not copy": ("array = where.upload(array)", "pass"),
    },
    "function.py": {
        "saved even when nobody needs them": ("if any(self.needs_input_grad):", "if True:"),
        "changes in place go unnoticed": ("if _mark(array) != mark:", "if False:"),
        "only the start of an array is looked at": ("array.flat[:: max(1, array.size // SAMPLES)]", "array.flat[:1]"),
        "mixed devices pass": ("if any(t.device is not device for t in tensors):", "if False:"),
        "missing gradients of outputs are not zeros": ("grads[i] = ctx.xp.zeros(shape, dtype)", "grads[i] = ctx.xp.ones(shape, dtype)"),
        "wrong shapes of gradients pass": ("if g.shape != shape:", "if False:"),
        "gradients keep another dtype": ("grads[i] = g.astype(dtype, copy=False)", "grads[i] = g"),
        "gradients of tensors that asked for none": ("if g is None or not ctx.needs_input_grad[i]:", "if g is None:"),
    },
    "random.py": {
        "every draw the same": ("_calls += 1", "pass"),
        "the seed does not begin anew": ("_seed, _calls = int(n), 0", "_seed = int(n)"),
    },
    "saving.py": {
        "the checkpoint's folder is not synced": ("part.rmdir()\n        sync_folder(path.parent)", "part.rmdir()"),
        "synced before the name is there": ("os.replace(file, path)\n        part.rmdir()\n        sync_folder(path.parent)", "sync_folder(path.parent)\n        os.replace(file, path)\n        part.rmdir()"),
        "the file is not synced": ("os.fsync(opened.fileno())\n        os.replace(file, path)", "pass\n        os.replace(file, path)"),
        "a failed write leaves its part": ("shutil.rmtree(part, ignore_errors=True)", "pass"),
        "a full disk is an error of the library": ("if isinstance(error, SafetensorError):  # what the library makes of a full disk\n            raise OSError(f\"{path}: {error}\") from None", "pass"),
        "the owner alone may read": ("file.chmod(mode)  # the library writes files that their owner alone may read", "pass"),
    },
}
