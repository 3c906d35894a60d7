"""Prepare ImageNet, or any folder of photographs, for training.

    python examples/prepare_imagenet.py SOURCE OUT
    python examples/prepare_imagenet.py --verify OUT

SOURCE holds the official ILSVRC2012 archives (train, val and devkit_t12), or Kaggle's layout
(ILSVRC/Data/CLS-LOC), or {train,val}/<class>/ with pictures. OUT is what
`python examples/alexnet.py --data OUT` then reads. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys

from tinynet.data.imagenet import check_md5
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import verify
from tinynet.errors import TinynetError


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="Exit status: 0 done, 1 --verify found something wrong, 2 it could not be done.",
    )
    parser.add_argument("source", nargs="?", help="archives or folder of pictures")
    parser.add_argument("out", nargs="?", help="the folder to prepare")
    parser.add_argument("--verify", metavar="OUT", help="check a prepared folder, byte for byte")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures (256)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", action="store_true", help="keep the whole picture, not the centre")
    form.add_argument("--raw", action="store_true", help="keep pixels, not JPEG: large but fast")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEG pictures (90)")
    parser.add_argument("--shard", type=int, default=2000, help="pictures a shard (2000)")
    parser.add_argument("--workers", type=int, help="processes (default: one a core)")
    parser.add_argument(
        "--max-bad", type=float, default=0.01, help="share of unusable pictures to bear (0.01)"
    )
    parser.add_argument("--md5", action="store_true", help="first check the official md5 sums")
    options = parser.parse_args(arguments)
    if not options.verify and not options.out:
        parser.error("SOURCE and OUT are needed, or --verify OUT")
    if options.workers is not None and options.workers < 1:
        parser.error(f"--workers: at least 1 expected, {options.workers} given")
    return options


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        if args.verify:
            problems = verify(args.verify)
            for problem in problems:
                print(problem, file=sys.stderr)
            print(f"{args.verify}: " + (f"{len(problems)} problem(s)" if problems else "all well"))
            return 1 if problems else 0
        form = "full" if args.full else "raw" if args.raw else "square"
        options = Options(args.size, form, args.quality, args.shard)
        if args.md5:
            check_md5(args.source)
        about = prepare(args.source, args.out, options, workers=args.workers, max_bad=args.max_bad)
    except (TinynetError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    pictures = about["pictures"]
    print(
        f"{args.out}: {pictures['train']:,} training and {pictures['val']:,} validation pictures "
        f"of {about['classes']} classes; {about['left_out']} left out, see {args.out}/report.tsv"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
