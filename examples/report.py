"""Writes report.html into a run's folder, also while the run goes on or after it was killed.

python examples/report.py runs/DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import tinynet
from tinynet.program import together
from tinynet.program.options import Parser
from tinynet.training.report import write_report


def main(arguments: list[str] | None = None) -> int:
    together.alone()
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", nargs="+", type=Path, help="a run's folder")
    args = parser.parse_args(arguments)
    try:
        for folder in args.folder:
            print(write_report(folder))
        return 0
    except (tinynet.TinynetError, OSError, ValueError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
