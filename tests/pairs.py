"""Cases in which options meet in pairs: faults hide where two options meet."""

from __future__ import annotations

import itertools
import random


def pairwise(options: dict[str, tuple]) -> list[dict]:
    """Cases in which every pair of values of two options occurs."""
    draw, names = random.Random(0), list(options)
    pairs = {
        (a, x, b, y)
        for a, b in itertools.combinations(names, 2)
        for x in range(len(options[a]))
        for y in range(len(options[b]))
    }
    cases = []
    while pairs:
        best, covered = None, set()
        start = draw.choice(sorted(pairs))
        for _ in range(20):
            case = {name: draw.randrange(len(values)) for name, values in options.items()}
            case[start[0]], case[start[2]] = start[1], start[3]
            new = {(a, case[a], b, case[b]) for a, b in itertools.combinations(names, 2)} & pairs
            if len(new) > len(covered):
                best, covered = case, new
        pairs -= covered
        cases.append({name: options[name][i] for name, i in best.items()})
    return cases
