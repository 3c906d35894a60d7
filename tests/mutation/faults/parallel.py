"""Faults of ranks."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "parallel/ranks.py": {
        "others than rank 0 call it, too": ("        if self.rank == 0:\n            try:", "        if self.rank == 0 or True:\n            try:"),
        "what rank 0 raises is raised there alone": ("        if failed is not None:\n            raise failed\n", ""),
        "the others wait for a failed rank 0": ("                self.words.bcast(told)\n                raise", "                raise"),
        "an error that cannot be sent is sent": ("told = None, _sendable(error)", "told = None, error"),
        "its own sum": ("return functools.reduce(np.add, self.gather(np.asarray(array)))", "return np.asarray(array)"),
        "all ranks speak": ("return list(dict.fromkeys(texts)) if self.rank == 0 else [], True", "return list(dict.fromkeys(texts)), True"),
        "one failure said by many": ("list(dict.fromkeys(texts)) if", "texts if"),
        "one rank is several": ("if told == 1 or not any(", "if not any("),
        "another MPI passes": ("    if mpi.COMM_WORLD.size == 1 and told != 1 and", "    if False and"),
        "the first launcher's name alone": ("SIZES = (\"PMI_SIZE\", \"OMPI_COMM_WORLD_SIZE\")", "SIZES = (\"PMI_SIZE\",)"),
    },
    "parallel/steps.py": {
        "every rank weighs the same": ("self.weight = weight / sum(weights)", "self.weight = 1 / len(weights)"),
        "weighed by examples": ("counts, weights = zip(*told, strict=True)\n        self.weight = weight / sum(weights)", "counts, weights = zip(*told, strict=True)\n        self.weight = count / sum(counts)"),
        "rows of the ranks after": ("sum(counts[: self.ranks.rank])", "sum(counts[: self.ranks.rank + 1])"),
        "figures are not weighed": ("            means *= self.weight\n", ""),
        "backward begins with one": ("device.xp.full(loss.shape, self.weight, loss.dtype)", "device.xp.full(loss.shape, 1, loss.dtype)"),
        "the rest of the buckets is not sent": ("        while bucket is not None:  # those", "        while False:  # those"),
        "handed out before they are there": ("        for request in under_way:\n            request.Wait()\n", ""),
        "finished after its newest use": ("node.number < oldest[leaf].number", "node.number > oldest[leaf].number"),
        "what did not arrive is what was there": ("                    self.flat[self.slices[i]] = 0\n", ""),
        "a missing gradient counts": ("                    self.flat[self.size + i] = 0\n", ""),
        "arrived for ever": ("        self.arrived.clear()\n", ""),
        "none where others have one": ("if parameter in self.arrived or self.device.download(self.flat[self.size + i :][:1])[0]:", "if parameter in self.arrived:"),
        "every rank lays out its own order": ("self.ranks.gather(order)[0]", "order"),
        "buckets in the order of their first": ("when[bucket[-1]]", "when[bucket[0]]"),
        "buckets of several dtypes": ("kind = parameter.device, parameter.dtype", "kind = parameter.device"),
        "places begin one late": ("zip([0, *ends], ends, strict=False)", "zip([0, *ends[:-2], 0], ends, strict=False)"),
    },
    "parallel/factors.py": {
        "dw is computed as well": ("node.needs_input_grad = (of_x, False, of_bias, *others)", "node.needs_input_grad = (of_x, True, of_bias, *others)"),
        "the relu is forgotten": ("            if y is not None:\n", "            if False:\n"),
        "rows of this rank alone": ("rows // self.count * self.most, width", "rows, width"),
        "padding is what was there": ("device.xp.zeros((rows", "device.xp.ones((rows"),
        "a weight used twice exchanges factors": ("or uses[weight] > 1:", "or uses[weight] > 2:"),
        "always factors": ("total * rows * (I + O) < 2 * I * O", "True"),
    },
}
