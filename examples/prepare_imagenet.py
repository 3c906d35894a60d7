"""Prepare ImageNet, or any folder of photographs, for training.

    python examples/prepare_imagenet.py SOURCE OUT
    python examples/prepare_imagenet.py --verify OUT
    python examples/prepare_imagenet.py --repair OUT

SOURCE holds the official ILSVRC2012 archives (train, val and devkit_t12), or Kaggle's layout
(ILSVRC/Data/CLS-LOC), or {train,val}/<class>/ with pictures. OUT is what
`python examples/alexnet.py --data OUT` then reads. Interrupted, it goes on where it stopped.
Under mpiexec each rank writes its part of the shards.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tinynet.data.imagenet import check_md5
from tinynet.data.over_ranks import prepare_over
from tinynet.data.prepare import Options
from tinynet.data.repair import repair
from tinynet.data.shards import repair_command, verify
from tinynet.errors import TinynetError
from tinynet.parallel.ranks import Ranks
from tinynet.program import options as of
from tinynet.program import together

SIGNALS = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal has come; args[0] is its number. No `except Exception` is to catch it."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = of.Parser(
        description=__doc__.split("\n\n")[0],
        epilog="Exit status: 0 done, 1 --verify found something wrong, 2 it could not be done, "
        "130, 143 or 129 stopped by SIGINT, SIGTERM or SIGHUP.",
    )
    parser.add_argument("source", nargs="?", help="archives or folder of pictures")
    parser.add_argument("out", nargs="?", type=Path, help="the folder to prepare")
    parser.add_argument("--verify", metavar="OUT", help="check a prepared folder, byte for byte")
    parser.add_argument(
        "--repair",
        metavar="OUT",
        help="write what is damaged in it again; SOURCE before it, if that lies elsewhere now",
    )
    parser.add_argument("--size", type=int, help="side of the pictures (256)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", action="store_true", help="keep the whole picture, not the centre")
    form.add_argument("--raw", action="store_true", help="keep pixels, not JPEG: large but fast")
    parser.add_argument("--quality", type=int, help="of the JPEG pictures (90)")
    parser.add_argument(
        "--chroma", help="4:2:0 keeps half the resolution of colours, 4:4:4 the whole (4:2:0)"
    )
    parser.add_argument("--shard", type=int, help="pictures a shard (2000)")
    parser.add_argument(
        "--val-share",
        type=of.share,
        help="of a folder without val, make this share validation pictures, such as 0.1",
    )
    parser.add_argument("--workers", type=of.at_least(1), help="processes (default: one a core)")
    parser.add_argument(
        "--max-bad", type=of.not_negative, help="share of unusable pictures to bear (0.01)"
    )
    parser.add_argument("--md5", action="store_true", help="first check the official md5 sums")
    args = parser.parse_args(arguments)
    given = {name for name, value in vars(args).items() if value is not None and value is not False}
    for what, takes in (("verify", set()), ("repair", {"source", "workers"})):
        if what in given:
            if others := sorted(given - takes - {what}):
                parser.error(f"--{what} does not take {', '.join(others)}: it is kept in OUT")
            return args
    if args.raw and (others := sorted(given & {"quality", "chroma"})):
        parser.error(f"--raw does not take {', '.join(others)}: it keeps pixels, not JPEG")
    if not args.out:
        parser.error("SOURCE and OUT are needed, or --verify OUT, or --repair OUT")
    return args


def run(args: argparse.Namespace, job: Ranks) -> int:
    """Do what was asked, on each rank its part; returns the exit status."""
    if job.size > 1:
        if args.verify or args.repair:
            raise TinynetError("--verify and --repair are for one rank: leave mpiexec out")
        together.begin(job, args)
    if args.verify:
        problems = verify(args.verify, progress=True)
        for problem in problems:
            print(problem, file=sys.stderr)
        advice = f"{len(problems)} problem(s); to mend: {repair_command(Path(args.verify))}"
        print(f"{args.verify}: {advice if problems else 'all well'}")
        return 1 if problems else 0
    if args.repair:
        names = repair(args.repair, args.source, workers=args.workers)
        print(f"{args.repair}: whole; written again: {', '.join(names) or 'nothing'}")
        return 0
    kept = {
        name: getattr(args, name) for name in ("size", "quality", "shard", "chroma", "val_share")
    }
    form = "full" if args.full else "raw" if args.raw else "square"
    options = Options(
        form=form, **{name: value for name, value in kept.items() if value is not None}
    )
    if args.md5:
        job.first(lambda: check_md5(args.source, progress=True))
    max_bad = 0.01 if args.max_bad is None else args.max_bad
    about = prepare_over(job, args.source, args.out, options, workers=args.workers, max_bad=max_bad)
    pictures = about["pictures"]
    print(
        f"{args.out}: {pictures['train']:,} training and {pictures['val']:,} validation pictures "
        f"of {about['classes']} classes; {about['left_out']} left out, see {args.out}/report.tsv"
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    job = together.started()
    with together.heard(job):
        return attempt(arguments, job)


def attempt(arguments: list[str] | None, job: Ranks) -> int:
    """Run a command line; a signal or a mistake ends it in one line."""
    # for paths that are no UTF-8
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    def stop(number: int, frame: FrameType | None) -> None:
        for name in SIGNALS:  # a second one ends the program at once
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        raise Stopped(number)

    before = {name: signal.signal(getattr(signal, name), stop) for name in SIGNALS}
    args = argparse.Namespace(out=None)
    try:
        args = together.parsed(job, parse, arguments)
        return run(args, job)
    except (TinynetError, OSError) as error:
        return together.fail(job, f"error: {error}", lambda line: print(line, file=sys.stderr))
    except Stopped as stopped:
        number: int = stopped.args[0]
        done = len(list((args.out / "parts").glob("*.npz"))) if args.out else 0
        kept = f"{done} shards are done, and " if done else ""
        print(
            f"stopped by {signal.Signals(number).name}: {kept}the same command goes on from here",
            file=sys.stderr,
        )
        job.abort(128 + number)
        return 128 + number
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


if __name__ == "__main__":
    sys.exit(main())
