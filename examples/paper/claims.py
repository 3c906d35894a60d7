"""The paper, statement by statement: each a command, a table, a picture and one sentence.

    python examples/paper/claims.py list
    python examples/paper/claims.py run pools
    python examples/paper/claims.py run noise --data CIFAR-10
    python examples/paper/claims.py run norm --scale full --data SHARDS --device cuda:0,cuda:1
    python examples/paper/claims.py run norm --out FOLDER -- --epochs 1     more options for all
    python examples/paper/claims.py page

What a statement trains, and by which rule it is judged, stands in statements.py and comparing.py.
A finished run is a line of docs/paper/runs.jsonl, and is not done again; a run that was stopped
goes on. Nets stay in runs/paper/. docs/paper.md is made of the lines alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from page import told, write_page
from running import Book, Job, Plan, RunError, perform
from statements import STATEMENTS

import tinynet
from tinynet.program import together
from tinynet.program.options import Parser, at_least

OWN = {"--seed", "--variant", "--start-from", "--lr", "--data", "--out"}  # of single runs
OUT = Path(__file__).resolve().parents[2] / "docs" / "paper"


def main(arguments: Sequence[str] | None = None) -> int:
    together.alone()
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    args, more = make_parser().parse_args(words[:cut]), tuple(words[cut + 1 :])
    out = args.out
    try:
        if (args.what == "run") != bool(args.name):
            raise ValueError("expected `run NAME`, `list` or `page`; list has the names")
        book = Book(out / "runs.jsonl")
        if args.what == "list":
            for name, statement in STATEMENTS.items():
                pictures = {arm.data or statement.data for arm in statement.arms.values()}
                print(f"{name} (section {statement.section}; {', '.join(sorted(pictures))})")
                print(f"    {statement.text}")
            return 0
        if args.what == "run":
            statement = STATEMENTS[args.name]
            if of_arms := sorted(OWN.intersection(more)):
                raise ValueError(
                    f"expected options that are the same for all runs after --, got "
                    f"{', '.join(of_arms)}: leave them out"
                )
            if more and out == OUT:
                raise ValueError(
                    f"runs with {' '.join(more)} are not the statement's own, which docs/paper "
                    "holds: give --out FOLDER"
                )
            plan = Plan(statement, args.scale, args.seeds or statement.seeds, more)
            wanted = {job.data for _, _, job in plan.jobs(book.lines)} - {"embedded"}
            run(plan, book, places_of(wanted, args.data, args.more_data), args.device)
            print(*told(args.name, plan, book.lines), sep="\n")
            if more:  # not as the statement has it: no page
                return 0
        elif not book.lines:
            raise ValueError(f"{book.path}: expected a line for each run, got none; `run NAME`")
        print(write_page(out, book.lines))
        return 0
    except (RunError, tinynet.TinynetError, OSError, ValueError) as error:
        print(f"claims.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


def make_parser() -> Parser:
    parser = Parser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add(
        "what", choices=("list", "run", "page"),
        help="list: the statements, and the pictures they need; run NAME: do what is missing of "
        "one, and say what is seen; page: write the page of all that has been run",
    )  # fmt: skip
    add("name", nargs="?", choices=STATEMENTS, metavar="NAME", help="of a statement")
    add(
        "--scale", choices=("small", "full"), default="small",
        help="small: minutes on two cores (default); full: 224x224, from prepared shards",
    )  # fmt: skip
    add("--seeds", type=at_least(1), metavar="K", help="paired seeds (as the statement has it)")
    add("--data", metavar="PATH", help="CIFAR-10, or the shards; as for alexnet.py")
    add("--more-data", metavar="PATH", help="photographs of other classes, or their shards")
    add("--device", metavar="D0[,D1]", help="as for alexnet.py")
    add("--out", type=Path, default=OUT, help="where lines and pictures are (docs/paper)")
    return parser


def places_of(wanted: set[str], data: str | None, more_data: str | None) -> dict[str, str]:
    """Where the pictures are. Raises ValueError if some are missing."""
    others = {"photographs", "MORE-SHARDS"}
    places = {}
    for name in sorted(wanted):
        path, flag = (more_data, "--more-data") if name in others else (data, "--data")
        if path is None:
            raise ValueError(f"expected {flag} PATH: this statement is about {name}")
        places[name] = path
    return places


def run(plan: Plan, book: Book, places: dict[str, str], device: str | None) -> None:
    """Do what is not in the book, and say how long the rest will take."""
    views = any("ten_views" in (c.figure, c.other) for c in plan.statement.comparisons)
    total, took, known = sum(1 for _ in plan.jobs(book.lines)), list[float](), 0

    def missing(job: Job) -> bool:
        known = book.lines.get(job.command())
        return known is None or (views and "ten_views" not in known)

    for number, (arm, seed, job) in enumerate(plan.jobs(book.lines), 1):
        if not missing(job):
            known += 1
            continue
        left = ""
        if took:
            count = sum(missing(each) for _, _, each in plan.jobs(book.lines))
            left = f", about {count * sum(took) / len(took) / 60:.0f} min left"
        print(f"{number} of {total}: {arm}, seed {seed}{left}: {job.command()}", flush=True)
        began = time.monotonic()
        book.add(perform(job, places, device, views))
        took.append(time.monotonic() - began)
    if known:
        print(
            f"{known} of {total} runs stand in {book.path} already and were not done again; with "
            "another --out FOLDER all are"
        )


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
