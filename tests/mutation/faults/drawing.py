"""Faults of drawn graphs."""

# ruff: noqa: E501  (source text is quoted as it stands)
# fmt: off

FAULTS = {
    "drawing/reading.py": {
        "nodes of the first path alone": ("        new = {source[0] for source in node.inputs if type(source) is tuple} - found\n", "        new = {source[0] for source in node.inputs[:1] if type(source) is tuple} - found\n"),
        "a freed graph is drawn": ("        if node.inputs is None:\n", "        if False:\n"),
        "the newest first": ("return sorted(found, key=lambda node: node.number)", "return sorted(found, key=lambda node: -node.number)"),
        "the caller's names come first": ("return self.first.get(place) or (value and value.name) or self.last.get(place)", "return self.last.get(place) or (value and value.name) or self.first.get(place)"),
        "memory is counted again": ("        self.seen[owner] = self.seen.get(owner, 0) + new\n", ""),
        "a parameter's memory is kept memory": ("        if owner in self.owned:\n", "        if False:\n"),
        "a view is memory of its own": ("owner = id(_owner(array))", "owner = id(array)"),
        "sums are left behind": ("                    sums[source] = g\n", "                    sums.setdefault(source, g)\n"),
        "gradients are not added up": ("                    if source in sums:\n", "                    if False:\n"),
        "the gradient before is that after": ("                edge.before = origin.gradient\n                edge.after = edge.gradient\n", "                edge.after = edge.gradient\n                edge.before = edge.gradient\n"),
        "every result is used once": ("single = self.uses[node, i] == 1 and", "single = True and"),
        "a column of the Jacobian": ("            found[i] = jacobian, False", "            found[i] = jacobian.T, False"),
        "a factor though neighbours matter": ("not (jacobian - np.diag(np.diag(jacobian))).any()", "True"),
        "the same unit for all rows": ("for unit in np.eye(elements, dtype=dtype):", "for unit in np.ones((elements, elements), dtype):"),
        "tensors without gradient are left out": ("            elif source is not None or seen is not None:\n", "            elif source is not None:\n"),
        "gradients there are not told": ("        if full:\n", "        if full > 1:\n"),
        "untraced operations are not told": ("        if silent:\n", "        if silent == len(self.nodes):\n"),
        "an owner one step up": ("    while isinstance(array.base, type(array)):\n        array = array.base\n", "    if isinstance(array.base, type(array)):\n        array = array.base\n"),
        "the oldest before names the place": ("max(before, key=lambda other: other.number)", "min(before, key=lambda other: other.number)"),
        "a loss's value is not drawn": ("    root.value = root.value or Value.of(loss.data, loss.device)\n", ""),
    },
    "drawing/folding.py": {
        "a depth too deep": ("lambda box: box.modules[:depth]", "lambda box: box.modules[: depth + 1]"),
        "the outer module's name": ("path, kind = modules[-1]", "path, kind = modules[0]"),
        "places begin anew": ("            yield start, stop, kind, path\n        start = stop", "            yield start, stop, kind, path\n            start = stop"),
        "repetitions of other shapes": ("return box.title, counted(box.parts), tuple(output.shape for output in box.outputs)", "return box.title, counted(box.parts)"),
        "a repetition too few": ("times = (stop - start) // period", "times = (stop - start) // period - 1"),
        "a part of a unit is folded": ("lengths = (stops - starts + period) // period * period", "lengths = stops - starts + period"),
        "the shorter run first": ("best = max(best, (longest, -period, -starts[lengths.argmax()]))", "best = max(best, (-period, longest, -starts[lengths.argmax()]))"),
        "what lies behind a run stays": ("waiting += [(low, start), (start + length, high)]", "waiting += [(low, start)]"),
        "named leaves vanish": ("stays = box.kind == \"parameter\" or (named_leaves and box.outputs[0].name)", "stays = box.kind == \"parameter\""),
        "parameters vanish": ("stays = box.kind == \"parameter\" or (named_leaves", "stays = (named_leaves"),
        "leaves of two users go into one": ("and len(users) == 1 and (only := users.pop())", "and (only := users.pop())"),
        "edges inside stay": ("        if source is target:\n            continue\n", ""),
        "the result of a fold is its first": ("edge = replace(edge, source=source, output=index)", "edge = replace(edge, source=source, output=0)"),
        "memory of the first part": ("kept=sum(box.kept for box in parts),", "kept=parts[0].kept,"),
        "a local derivative of the first part": ("edge = replace(edge, local=None, target=target)", "edge = replace(edge, target=target)"),
        "auto folds always": ("        if len(graph.shown) <= FOLDED:\n            return graph\n", ""),
    },
}
