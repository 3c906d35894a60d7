"""Faults of the files of others."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "foreign/torch.py": {
        "strides are bytes": ("strides = [s * flat.itemsize for s in part.strides]", "strides = list(part.strides)"),
        "the offset is forgotten": ("as_strided(flat[part.offset :], part.shape, strides)", "as_strided(flat, part.shape, strides)"),
        "C order": ("view = np.lib.stride_tricks.as_strided(flat[part.offset :], part.shape, strides)", "view = flat[part.offset : part.offset + count].reshape(part.shape)"),
        "the last value lies outside": ("(count and last >= len(flat))", "(count and last > len(flat))"),
        "negative strides pass": (" and min(part.strides, default=0) >= 0", ""),
        "little-endian always": ("\">\" if big else \"<\"", "\"<\""),
        "the order of an old file is forgotten": ("order: Literal[\"<\", \">\"] = \"<\" if about[\"little_endian\"] else \">\"", "order: Literal[\"<\", \">\"] = \"<\""),
        "an old file's storages in the order of names": ("    for key in keys:\n        each", "    for key in sorted(keys):\n        each"),
        "compressed entries pass": ("each.compress_type != zipfile.ZIP_STORED", "False"),
        "any call is a dict": ("    if name == \"collections OrderedDict\" and arguments == ():\n", "    if name.startswith(\"collections\"):\n"),
        "memo from the first": ("memo[len(memo) if op == \"MEMOIZE\" else arg] = stack[-1]", "memo[arg or 0] = stack[-1]"),
        "names and values exchanged": ("names, values = pairs[::2], pairs[1::2]", "values, names = pairs[::2], pairs[1::2]"),
        "keys of any kind": ("if not isinstance(target, dict) or not all(isinstance(n, (str, int)) for n in names):", "if not isinstance(target, dict):"),
        "a pickle of any length": ("if (place or 0) - start > LARGEST:", "if (place or 0) < 0:"),
        "longs are ints": ("\"LongStorage\": \"i8\"", "\"LongStorage\": \"i4\""),
        "tensors with others beside are read": ("        if not isinstance(name, str) or not isinstance(part, Part):\n", "        if not isinstance(name, str):\n"),
        "an object's state is dropped": ("            if not isinstance(stack[-1], dict):\n                raise ValueError(\"an object of a class\")\n", ""),
    },
    "foreign/caffe.py": {
        "the highest bits first": ("value |= (byte & 127) << shift", "value = (value << 7) | (byte & 127)"),
        "seven bits of eight": ("if byte < 128:", "if byte <= 128:"),
        "shapes of the old form first": ("shape = sizes or list(old.values())", "shape = list(old.values()) if all(old.values()) else sizes"),
        "doubles as floats": ("\"<f4\" if number == FLOATS else \"<f8\"", "\"<f4\""),
        "the last part of the values": ("array = np.concatenate(parts).astype(np.float32) if parts", "array = parts[-1].astype(np.float32) if parts"),
        "a blob cut short passes": ("    if math.prod(shape) != array.size:\n", "    if math.prod(shape) > array.size:\n"),
        "fields beyond the end": ("if size < 0 or at + size > len(data):", "if size < 0:"),
    },
    "foreign/beside.py": {
        "the caller's memory": ("Tensor(np.array(x.detach().numpy()), cpu, needs)", "Tensor(x.detach().numpy(), cpu, needs)"),
        "our memory is given away": ("tuple(torch.from_numpy(np.array(y.data)) for y in several)", "tuple(torch.from_numpy(y.data) for y in several)"),
        "a row where there was one": ("return given if isinstance(made, tuple) else given[0]", "return given if len(given) > 1 else given[0]"),
        "gradients of the options": ("needs = ctx.needs_input_grad[1:]", "needs = ctx.needs_input_grad"),
        "a second derivative is 0": ("        @torch.autograd.function.once_differentiable\n", ""),
        "any class": ("    if not isinstance(function, type) or not issubclass(function, Function):\n", "    if not isinstance(function, type):\n"),
    },
}
