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
        "mul: factors exchanged": ("da = None if b is None else unbroadcast(dy * b, a_shape)", "da = None if b is None else unbroadcast(dy * (b if a is None else a), a_shape)"),
        "maximum: both get all of a tie": ("xp.where(a == b, dy / 2, dy)", "dy"),
    },
    "arithmetic/reductions.py": {
        "max: ties count twice": ("won * (dy / won.sum(axis=ctx.inner, keepdims=True))", "won * dy"),
        "mean: the sum": ("return sum(x, axis, keepdims) / _count(x, axis)", "return sum(x, axis, keepdims)"),
    },
    "operators.py": {
        "operands of 1 - x exchanged": ("return call.sub(other, self)", "return call.sub(self, other)"),
    },
    "arithmetic/shapes.py": {
        "transpose: axes not inverted": ("dy.transpose(np.argsort(ctx.axes).tolist())", "dy.transpose(ctx.axes)"),
        "concat: parts in the wrong places": ("np.cumsum(ctx.sizes)[:-1]", "np.cumsum(ctx.sizes[::-1])[:-1]"),
        "the gradient of a copy stays away": ("return ctx.device.copy_from(dy, ctx.output_device), None", "return dy * 0, None"),
    },
    "tape.py": {
        "oldest node first": ("heapq.heappush(queue, (-source.number, source))", "heapq.heappush(queue, (source.number, source))"),
        "gradients of a shared node not added": ("return functools.reduce(functools.partial(add, device), parts)", "return parts[-1]"),
        "gradients shared between leaves": ("elif not _shares_memory(node, g, i, arrived, leaving):", "elif True:"),
        "missing gradients of outputs are not zeros": ("node.output_device.xp.zeros(*node.outputs[output])", "node.output_device.xp.ones(*node.outputs[output])"),
        "what two visits bring to a leaf is not added": ("            leaves[leaf] = add(leaf.device, before, g)\n", "            leaves[leaf] = g\n"),
    },
    "tensors.py": {
        "gradients of a leaf not added": ("            grad = add(self.device, self.grad.data, grad)\n", "            grad = add(self.device, 0 * self.grad.data, grad)\n"),
        "deep copy shares memory": ("twin.data = self.data.copy()", "twin.data = self.data"),
        "a moved leaf's gradient stays": ("self.grad.move(device)", "pass"),
        "a matrix taken for a scalar": ("if self.data.size != 1 and self.requires_grad:", "if False:"),
        "tensor() does not copy": ("array = where.upload(array)", "pass"),
    },
    "recording.py": {
        "no_grad never ends": ("this_thread.paused -= 1", "pass"),
        "no_grad ends early": ("this_thread.paused -= 1", "this_thread.paused = 0"),
    },
    "function.py": {
        "saved arrays are kept": ("        self.__dict__.clear()  # saved arrays, and what forward set", "        pass"),
        "saved even when nobody needs them": ("if True in self.needs_input_grad:", "if True:"),
        "changes in place go unnoticed": ("if marks != self._marks:", "if False:"),
        "mixed devices pass": ("if any(t.device is not device for t in tensors):", "if False:"),
        "wrong shapes of gradients pass": ("if not is_array or g.shape != shape:", "if not is_array:"),
        "gradients keep another dtype": ("if not cls.ours or (g.dtype is not dtype and g.dtype != dtype):", "if not cls.ours and False:"),
        "gradients of tensors that asked for none": ("            if source is None:\n                given[i] = None\n", ""),
    },
    "marks.py": {
        "only the start of an array is looked at": ("elements[:: array.size // SAMPLES]", "elements[:SAMPLES]"),
    },
    "random.py": {
        "every draw the same": ("_calls += 1", "pass"),
        "the seed does not begin anew": ("_seed, _calls = int(n), 0", "_seed = int(n)"),
        "the key of a draw the other way round": ("key=np.array(next_call(), np.uint64)", "key=np.array(next_call()[::-1], np.uint64)"),
        "a state without its calls": ("_seed, _calls = int(state[\"seed\"]), int(state[\"calls\"])", "_seed, _calls = int(state[\"seed\"]), _calls"),
    },
    "saving.py": {
        "parts are not synced": ("            file.flush()\n            os.fsync(file.fileno())\n        os.replace(part, path)", "            file.flush()\n        os.replace(part, path)"),
        "the folder of parts is not synced": ("        raise\n    sync_folder(path.parent)\n", "        raise\n"),
        "a failed text leaves its part": ("        part.unlink(missing_ok=True)\n        raise\n", "        raise\n"),
        "parts straight into the file": ("        with open(part, \"wb\") as file:", "        part = path\n        with open(part, \"wb\") as file:"),
        "the checkpoint's folder is not synced": ("part.rmdir()\n        sync_folder(path.parent)", "part.rmdir()"),
        "synced before the name is there": ("os.replace(file, path)\n        part.rmdir()\n        sync_folder(path.parent)", "sync_folder(path.parent)\n        os.replace(file, path)\n        part.rmdir()"),
        "the file is not synced": ("os.fsync(opened.fileno())\n        os.replace(file, path)", "pass\n        os.replace(file, path)"),
        "a failed write leaves its part": ("shutil.rmtree(part, ignore_errors=True)", "pass"),
        "a full disk is an error of the library": ("if isinstance(error, SafetensorError):  # what the library makes of a full disk\n            raise OSError(f\"{path}: {error}\") from None", "pass"),
        "the owner alone may read": ("file.chmod(mode)  # the library writes files that their owner alone may read", "pass"),
        "best is a second name that save writes into": ("        os.replace(file, path)\n", "        path.write_bytes(file.read_bytes())\n        file.unlink()\n"),
    },
    "profiler.py": {
        "the second time replaces the first": ("self.seconds += time.perf_counter() - self._entered", "self.seconds = time.perf_counter() - self._entered"),
        "the time is taken before the device is done": ("    device.synchronize()\n    seconds = time.perf_counter() - start\n", "    seconds = time.perf_counter() - start\n    device.synchronize()\n"),
        "the trace in milliseconds": ("                dur=1e6 * e.seconds,\n", "                dur=1e3 * e.seconds,\n"),
        "an event starts when it ends": ("str(device), start, seconds, nbytes)", "str(device), time.perf_counter(), seconds, nbytes)"),
    },
    "lock.py": {
        "the lock goes before the name": ("            path.unlink(missing_ok=True)\n            os.close(file)\n", "            os.close(file)\n            path.unlink(missing_ok=True)\n"),
        "who held it before still shows": ("    os.ftruncate(file, 0)\n", ""),
        "the file stays open when somebody holds it": ("or \"another process\"\n            os.close(file)\n", "or \"another process\"\n"),
    },
}
