"""A general mutation tool: small changes everywhere in a source file, one at a time.

    python tests/mutation/general.py [--sample N --seed N] [--results FILE [--again]] [--jobs N]
                                     [FILE ...]

Operators and comparisons exchanged, numbers plus one, conditions negated, `+=` to `=`, statements
left out. Left alone are annotations, texts, what is raised, zip's `strict` (it only checks
ourselves), and constants that only say how work is cut (TUNING): any value of these gives the same
results. Survivors that no test could notice are listed in equivalent.txt, with the reason; all
others are printed. With --results a run can be broken off and taken up again; --again tries those
once more that survived, when tests were added.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

from runner import ROOT, TESTS, Mutant, Result, run

FILES = [
    *sorted(
        p.relative_to(ROOT / "tinynet").as_posix()
        for pattern in ("kernels/*.py", "kernels/steps/*.py", "functional/*.py")
        for p in (ROOT / "tinynet").glob(pattern)
        if p.name not in ("__init__.py", "backends.py")  # these hold names alone
    ),
    "arithmetic.py",
    "tensor.py",
    "function.py",
    "optim/sgd.py",
    "optim/optimizer.py",
    "optim/lr_scheduler.py",
]
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
    if isinstance(node, (ast.AugAssign, ast.Assign, ast.Raise, ast.Delete)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield "left out", ast.Pass()


def nodes(tree: ast.AST, place: str = "") -> Iterator[tuple[str, ast.AST]]:
    """All nodes that may be changed, and the function each one is in."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Name):
            name = child.targets[0].id
            if name in TUNING or name.startswith("__"):
                continue
        if isinstance(child, (ast.JoinedStr, ast.AnnAssign, ast.arg, ast.Import, ast.ImportFrom)):
            continue
        if isinstance(child, ast.keyword) and child.arg == "strict":
            continue
        yield place, child
        if isinstance(child, ast.Raise):
            continue
        inside = place
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inside = f"{place}.{child.name}".lstrip(".")
        if isinstance(child, ast.FunctionDef):
            child = ast.Module(
                [*child.body, *child.args.defaults, *child.decorator_list],
                [],
            )
        yield from nodes(child, inside)


def mutants_of(file: str) -> list[Mutant]:
    source = (ROOT / "tinynet" / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for place, node in nodes(ast.parse(source)):
        for what, changed in changes(node):
            target = node.test if what == "condition" else node
            begin = starts[target.lineno - 1] + target.col_offset
            end = starts[target.end_lineno - 1] + target.end_col_offset
            text = ast.unparse(ast.fix_missing_locations(changed))
            text = text if isinstance(changed, ast.stmt) else f"({text})"
            shown = (
                source[starts[target.lineno - 1] : begin]
                + text.encode()
                + source[end : starts[target.end_lineno]]
            )
            if what == "left out":
                shown = source[begin:end]
            name = f"{file}:{target.lineno}: {place}: {what}: {' '.join(shown.decode().split())}"
            found.append(
                Mutant(name, file, (source[:begin] + text.encode() + source[end:]).decode())
            )
    return found


def key(name: str) -> str:
    """A mutant's name without its line number, which moves."""
    file, _, rest = name.split(":", 2)
    return f"{file}:{rest}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="below tinynet/ (default: kernels, tape, operations, optim)",
    )
    parser.add_argument(
        "--sample",
        type=int,
        help="so many changes in all, from each file its share, chosen by --seed",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--results",
        type=Path,
        help="a file that keeps results (JSON lines); those are not run again",
    )
    parser.add_argument("--again", action="store_true", help="but those that survived are")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    lines = (Path(__file__).parent / "equivalent.txt").read_text().splitlines()
    equivalent = {line for line in lines if line and not line.startswith((" ", "#"))}
    for file in arguments.files:
        if file not in TESTS:
            parser.error(f"expected a file that has tests in runner.py, got {file}")
    found = [m for file in arguments.files or FILES for m in mutants_of(file)]
    chosen = [m for m in found if key(m.name) not in equivalent]
    skipped = len(found) - len(chosen)
    if arguments.sample and arguments.sample < len(chosen):
        # Shuffled within each file, then every so-manieth of the whole row: each file has its
        # share, to one more or less.
        random.Random(arguments.seed).shuffle(chosen)
        chosen.sort(key=lambda m: m.file)
        step = len(chosen) / arguments.sample
        chosen = [chosen[int((i + 0.5) * step)] for i in range(arguments.sample)]
    print(f"{len(chosen)} changes to try, {skipped} known to be equivalent", flush=True)

    start, seen = time.monotonic(), Counter()

    def report(result: Result) -> None:
        seen[bool(result.killer)] += 1
        if not result.killer:
            print(f"SURVIVED {result.mutant.name}", flush=True)
        if sum(seen.values()) % 50 == 0:
            print(
                f"  {sum(seen.values())} of {len(chosen)}, {time.monotonic() - start:.0f} s",
                flush=True,
            )

    results = run(chosen, arguments.jobs, report, arguments.results, arguments.again)
    for file in dict.fromkeys(r.mutant.file for r in results):
        mine = [r for r in results if r.mutant.file == file]
        killed = sum(bool(r.killer) for r in mine)
        print(f"{file:<36} {killed:>4} of {len(mine):>4} killed  {killed / len(mine):6.1%}")
    killed = sum(bool(r.killer) for r in results)
    print(f"{'all':<36} {killed:>4} of {len(results):>4} killed  {killed / len(results):6.1%}")
    return 0 if killed >= 0.95 * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
