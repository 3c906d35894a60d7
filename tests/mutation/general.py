"""A general mutation tool: small changes everywhere in a room, one at a time.

    python tests/mutation/general.py [--sample N --seed N] [--results FILE [--again]] [--jobs N]
                                     [ROOM | FILE ...]
    python tests/mutation/general.py --check    # only whether equivalent.txt fits the source: 2 s

Operators and comparisons exchanged, numbers plus one, conditions negated, `+=` to `=`, statements
left out or exchanged with the next one, arguments exchanged, a copy forgotten, a block without its
`with` (a lock, a device, no_grad). Left alone are annotations and the types that they use, texts,
what is raised, zip's `strict` (it only checks ourselves), numbers in gradcheck's cases (another
case is as good), constants that only say how work is cut (TUNING) or how large a figure, its
letters and its lines are drawn (LOOKS), -1 in a shape (NumPy takes any negative number), the order
of arguments of max and its like, and of two statements that have nothing to do with each other.

Rooms and their tests are in rooms.py; --sample takes so many changes of each room, chosen by
--seed. Survivors that no test could notice are listed in equivalent.txt, with the reason; all
others are printed. With --results a run can be broken off and taken up again; --again tries those
once more that survived, when tests were added.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

from reach import Reach
from rooms import ROOMS, ROOT, files_of, path_of, tests_of
from runner import Mutant, Result, compiles, run, sample, title

TUNING = {
    "COLUMN_BYTES",
    "PIXELS",
    "FEW",
    "DX_BLOCKS",
    "DW_LANES",
    "COLUMNS",
    "LANES",
    "RUN",
    "PIECE",
    "ROWS",
    "PICTURES",
    "SAMPLES",
    "SEGMENT",
    "SMALL",
    "ENOUGH",
}
SYMMETRIC = {"max", "min", "math.gcd", "np.maximum", "np.minimum", "np.multiply", "np.result_type"}
LOOKS = {
    "dpi",
    "fontsize",
    "frameon",
    "labelsize",
    "linewidth",
    "linewidths",
    "markeredgewidth",
    "markersize",
    "shrink",
}
SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """(what is changed, the changed node) for all changes of one node."""

    def changed(what: str, **fields: object) -> tuple[str, ast.AST]:
        twin = deepcopy(node)
        for name, value in fields.items():
            setattr(twin, name, value)
        return what, twin

    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
        yield changed("operator", op=SWAPS[type(node.op)]())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield changed("comparison", ops=[SWAPS[type(node.ops[0])]()])
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield changed("comparison", ops=[*node.ops[:i], SWAPS[type(op)](), *node.ops[i + 1 :]])
    elif isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield "unary operator dropped", node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield changed("constant", value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield changed("constant + 1", value=node.value + 1)
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield "condition", ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.AugAssign):
        yield "to =", ast.Assign([node.target], node.value, lineno=0)
        if type(node.op) in SWAPS:
            yield changed("operator", op=SWAPS[type(node.op)]())
    elif isinstance(node, ast.With):
        yield "without its with", ast.If(ast.Constant(True), node.body, [])
    elif isinstance(node, ast.Call):
        starred = any(isinstance(a, ast.Starred) for a in node.args[:2])
        same = len({*map(ast.unparse, node.args[:2])}) < 2
        name = ast.unparse(node.func)
        if not (same or starred or name in SYMMETRIC or name.endswith(".swapaxes")):
            yield changed("arguments exchanged", args=[*node.args[1::-1], *node.args[2:]])
        if isinstance(node.func, ast.Attribute) and node.func.attr == "copy":
            yield "copy forgotten", node.func.value
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "ascontiguousarray":
            yield "copy forgotten", node.args[0]
    if isinstance(node, ast.Raise) and node.exc and "NotImplemented" in ast.unparse(node.exc):
        return  # what a subclass must have
    if isinstance(node, (ast.AugAssign, ast.Assign, ast.Raise, ast.Delete)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield "left out", ast.Pass()


# They change nothing, and depend on nothing that a statement could change between two of them.
PLAIN = {"bool", "dict", "enumerate", "float", "int", "isinstance", "len", "list", "max", "min"}
PLAIN |= {"range", "set", "sorted", "str", "sum", "tuple", "zip"}
PLAIN |= {"np.arange", "np.array", "np.empty", "np.flatnonzero", "np.full", "np.ndarray", "np.prod"}
PLAIN |= {"np.zeros"}
WORDS = {"set_title", "set_visible", "set_xlabel", "set_ylabel"}  # of matplotlib
METHODS = {"astype", "copy", "items", "join", "keys", "reshape", "sum", "tolist", "values"}


def independent(one: ast.stmt, other: ast.stmt) -> bool:
    """Whether two statements surely do the same in either order. Of assignments: neither names what
    the other one sets, and there is no call, or it cannot see what the other one sets: local
    variables, or attributes of a self that it is not given. Of calls: they set different things of
    a figure, one of them a word or a frame.
    """

    def parts(statement: ast.stmt) -> tuple[set[str], set[str], bool, bool]:
        """What is set, all that is named, whether something is called, whether it is given self."""
        walked = list(ast.walk(statement))
        named = [n for n in walked if isinstance(n, (ast.Name, ast.Attribute, ast.Subscript))]
        loops = [n.target for n in walked if isinstance(n, ast.comprehension)]
        inner = {n.id for loop in loops for n in ast.walk(loop) if isinstance(n, ast.Name)}
        named = [n for n in named if not (isinstance(n, ast.Name) and n.id in inner)]
        given = [n for n in named if isinstance(n.ctx, ast.Store)]
        calls = [n.func for n in walked if isinstance(n, ast.Call)]
        calling = any(
            ast.unparse(f) not in PLAIN and not (isinstance(f, ast.Attribute) and f.attr in METHODS)
            for f in calls
        )
        with_self = any(
            isinstance(n, ast.Name) and n.id == "self" for n in ast.walk(statement.value)
        )
        return set(map(ast.unparse, given)), set(map(ast.unparse, named)), calling, with_self

    calls = [s.value.func for s in (one, other) if isinstance(getattr(s, "value", None), ast.Call)]
    if all(isinstance(s, ast.Expr) for s in (one, other)):
        setters = [f.attr for f in calls if isinstance(f, ast.Attribute)]
        setters = [name for name in setters if name.startswith("set_") or name == "legend"]
        return len({*setters}) == 2 and bool(WORDS.intersection(setters))
    if not all(isinstance(s, (ast.Assign, ast.AugAssign)) for s in (one, other)):
        return False

    def unseen(names: set[str], with_self: bool) -> bool:
        """Whether a call cannot see these names being set."""
        return all(n.isidentifier() or n.startswith("self.") and not with_self for n in names)

    given, named, calling, with_self = parts(one)
    other_given, other_named, other_calling, other_with_self = parts(other)
    if given & other_named or other_given & named or (calling and other_calling):
        return False
    if calling and not unseen(other_given, with_self):
        return False
    return not other_calling or unseen(given, other_with_self)


def neighbours(tree: ast.AST) -> Iterator[tuple[ast.stmt, ast.stmt]]:
    """All pairs of simple statements of which one follows the other."""
    simple = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return, ast.Delete)
    for node in ast.walk(tree):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            for one, other in itertools.pairwise(body) if isinstance(body, list) else ():
                text = isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
                inside = not isinstance(node, (ast.Module, ast.ClassDef))
                if inside and not text and isinstance(one, simple) and isinstance(other, simple):
                    if not independent(one, other):
                        yield one, other


def nodes(tree: ast.AST, place: str = "") -> Iterator[tuple[str, ast.AST]]:
    """All nodes that may be changed, and the function each one is in."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name):
            name = child.targets[0].id
            types = isinstance(child.value, (ast.Subscript, ast.BinOp)) and name[0].isupper()
            if name in TUNING or name.startswith("__") or (types and not name.isupper()):
                continue
        if isinstance(child, (ast.JoinedStr, ast.AnnAssign, ast.arg, ast.Import, ast.ImportFrom)):
            continue
        if isinstance(child, ast.keyword) and (child.arg == "strict" or child.arg in LOOKS):
            continue
        yield place, child
        if isinstance(child, ast.Raise):
            continue
        inside = place
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inside = f"{place}.{child.name}".lstrip(".")
        if isinstance(child, ast.FunctionDef):
            child = ast.Module([*child.body, *child.args.defaults, *child.decorator_list], [])
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
            if child.func.attr == "reshape":
                kept = [a for a in child.args if ast.unparse(a) != "-1"]
                child = ast.Call(child.func, kept, child.keywords)
        elif isinstance(child, ast.Call) and ast.unparse(child.func) in ("_figure", "_png"):
            continue
        yield from nodes(child, inside)


def mutants_of(file: str) -> list[Mutant]:
    """All changes of a file that leave it Python."""
    return [m for m in all_changes(file) if compiles(m.source)]


def all_changes(file: str) -> list[Mutant]:
    source = (ROOT / path_of(file)).read_bytes()
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place_of(node: ast.AST) -> tuple[int, int]:
        """Where a node's text begins and ends."""
        begin = starts[node.lineno - 1] + node.col_offset
        return begin, starts[node.end_lineno - 1] + node.end_col_offset

    found, cases = [], file.startswith("gradcheck/cases/")
    for place, node in nodes(tree):
        if cases and isinstance(node, ast.Constant):
            continue
        for what, changed in changes(node):
            target = node.test if what == "condition" else node
            begin, end = place_of(target)
            text = ast.unparse(ast.fix_missing_locations(changed))
            text = text if isinstance(changed, ast.stmt) else f"({text})"
            text = text.replace("\n", "\n" + " " * target.col_offset)
            shown = source[starts[target.lineno - 1] : begin] + text.encode()
            shown += source[end : starts[target.end_lineno]]
            if what in ("left out", "without its with"):
                shown = source[begin:end].partition(b"\n")[0]
            name = f"{file}:{target.lineno}: {place}: {what}: {' '.join(shown.decode().split())}"
            found.append(
                Mutant(name, file, (source[:begin] + text.encode() + source[end:]).decode())
            )
    for one, other in neighbours(tree):
        (begin, middle), (after, end) = place_of(one), place_of(other)
        text = source[after:end] + source[middle:after] + source[begin:middle]
        shown = b" / ".join(
            source[b:e].partition(b"\n")[0] for b, e in ((begin, middle), (after, end))
        )
        name = f"{file}:{one.lineno}: exchanged: {' '.join(shown.decode().split())}"
        found.append(Mutant(name, file, (source[:begin] + text + source[end:]).decode()))
    return found


def misfits(equivalent: set[str], files: set[str], found: list[Mutant]) -> list[str]:
    """The lines of these files that do not name one change of them."""
    times = Counter(title(m.name) for m in found)
    mine = sorted(line for line in equivalent if line.partition(":")[0] in files)
    return [
        f"equivalent.txt: expected one such change, found {times[line]}: {line}"
        for line in mine
        if times[line] != 1
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "places",
        nargs="*",
        metavar="PLACE",
        help=f"rooms ({', '.join(ROOMS)}), or files as rooms.py has them (default: all rooms)",
    )
    parser.add_argument("--sample", type=int, help="so many changes of each room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--results",
        type=Path,
        help="a file that keeps results (JSON lines); those are not run again",
    )
    parser.add_argument("--again", action="store_true", help="but those that survived are")
    parser.add_argument(
        "--reach",
        type=Path,
        help="a file .coverage (reach.py): ask only tests that run a changed line",
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--check", action="store_true", help="run no test: does each line of equivalent.txt fit?"
    )
    arguments = parser.parse_args()
    lines = (Path(__file__).parent / "equivalent.txt").read_text().splitlines()
    equivalent = {line for line in lines if line and not line.startswith((" ", "#"))}
    if arguments.check:
        files = {line.partition(":")[0] for line in equivalent}
        there = [file for file in files if (ROOT / path_of(file)).exists()]
        lost = misfits(equivalent, files, [m for file in there for m in all_changes(file)])
        print(*lost, f"{len(equivalent) - len(lost)} lines fit, {len(lost)} do not", sep="\n")
        return 1 if lost else 0
    chosen, room_of, skipped, lost = [], {}, 0, []
    for place in arguments.places or ROOMS:
        if place not in ROOMS:
            try:
                tests_of(place)
            except ValueError as error:
                parser.error(str(error))
        files = files_of(place) if place in ROOMS else [place]
        found = [m for file in files for m in mutants_of(file)]
        lost += misfits(equivalent, {*files}, found)
        kept = [m for m in found if title(m.name) not in equivalent]
        skipped += len(found) - len(kept)
        kept = sample(kept, arguments.sample or len(kept), arguments.seed)
        room_of |= {m.name: place for m in kept}
        chosen += kept
    print(f"{len(chosen)} changes to try, {skipped} known to be equivalent", flush=True)

    start, seen = time.monotonic(), Counter()

    def report(result: Result) -> None:
        seen[bool(result.killer)] += 1
        if not result.killer:
            print(f"SURVIVED {result.mutant.name}", flush=True)
        if seen.total() % 50 == 0:
            seconds = time.monotonic() - start
            print(f"  {seen.total()} of {len(chosen)}, {seconds:.0f} s", flush=True)

    reach = Reach(arguments.reach) if arguments.reach else None
    results = run(chosen, arguments.jobs, report, arguments.results, arguments.again, reach)
    for place in [*dict.fromkeys(room_of.values()), "all"]:
        mine = [bool(r.killer) for r in results if place in ("all", room_of[r.mutant.name])]
        print(f"{place:<36} {sum(mine):>4} of {len(mine):>4} killed  {sum(mine) / len(mine):6.1%}")
    for line in lost:
        print(line)
    return 0 if seen[True] >= 0.95 * seen.total() and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
