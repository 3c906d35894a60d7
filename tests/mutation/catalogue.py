"""Named faults, as people make them: a line or two of the source that say something else.

    python tests/mutation/catalogue.py [--sample N --seed N] [--results FILE [--again]] [--jobs N]
                                       [ROOM | NAME ...]
    python tests/mutation/catalogue.py --check      # only whether all still fit the source: 1 s

Statements moved, a copy or a lock forgotten, arguments exchanged, a default that differs, one epoch
too many. The tests must notice every one. faults/ROOM.py holds them: {file as rooms.py has it:
{name: (what stands there, what it becomes, and so on for each place)}}. A text must occur once, and
what comes out must be Python: faults that no longer fit the source are named and make the end a
failure.
Printed is which test noticed which fault, and how many were noticed in each room.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from reach import Reach
from rooms import ROOMS, ROOT, path_of, tests_gone
from runner import Mutant, Result, compiles, run, sample


def mutants_of(room: str, lost: list[str]) -> Iterator[Mutant]:
    """The faults of a room; `lost` gets those that no longer fit the source, and why."""
    if not (Path(__file__).parent / "faults" / f"{room}.py").exists():
        return
    for file, faults in importlib.import_module(f"faults.{room}").FAULTS.items():
        path = ROOT / path_of(file)
        source = path.read_text() if path.exists() else ""
        for name, places in faults.items():
            changed = source
            for old, new in zip(places[::2], places[1::2], strict=True):
                if changed.count(old) != 1:
                    lost.append(
                        f"{file}: {name}: expected the text once, found it {changed.count(old)} "
                        f"times: {old}"
                    )
                    break
                changed = changed.replace(old, new)
            else:
                if file.endswith(".py") and not compiles(changed):
                    lost.append(f"{file}: {name}: what comes out is no Python")
                    continue
                yield Mutant(f"{file}: {name}", file, changed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="rooms, or faults whose 'file: name' contains this (default: all)",
    )
    parser.add_argument("--sample", type=int, help="so many faults of each room")
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
        "--check",
        action="store_true",
        help="run no test: do all still fit, and are all tests there?",
    )
    arguments = parser.parse_args()
    room_of: dict[str, str] = {}
    mutants, lost = [], []
    names = [name for name in arguments.names if name not in ROOMS]
    for room in ROOMS:
        mine = list(mutants_of(room, lost))
        if arguments.names and room not in arguments.names:
            mine = [m for m in mine if any(name in m.name for name in names)]
        mine = sample(mine, arguments.sample or len(mine), arguments.seed)
        mutants += mine
        room_of |= {m.name: room for m in mine}
    if arguments.check:
        lost += [f"rooms.py: {test} is not there" for test in tests_gone()]
        print(*lost, f"{len(mutants)} faults fit the source, {len(lost)} do not", sep="\n")
        return 1 if lost else 0
    start = time.monotonic()

    def report(result: Result) -> None:
        print(f"{result.mutant.name:<78} {result.killer or 'NOBODY NOTICED'}", flush=True)

    reach = Reach(arguments.reach) if arguments.reach else None
    results = run(mutants, arguments.jobs, report, arguments.results, arguments.again, reach)
    for room in dict.fromkeys(room_of.values()):
        mine = [bool(r.killer) for r in results if room_of[r.mutant.name] == room]
        print(f"{room:<12} {sum(mine):>4} of {len(mine):>4} noticed")
    killed = sum(bool(r.killer) for r in results)
    print(f"{killed} of {len(results)} faults noticed, {time.monotonic() - start:.0f} s")
    for line in lost:
        print(line)
    return 0 if killed == len(results) and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
