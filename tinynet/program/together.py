"""A program over several ranks: they are alike, rank 0 alone is heard, and all end together."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from tinynet.devices import cores
from tinynet.errors import DataError
from tinynet.nn import Module
from tinynet.parallel.ranks import Ranks, RanksError, start

OWN = {"device", "out", "threads", "workers", "data"}  # options that may differ by host
SAMPLE = 64  # pictures that are compared of a data set that does not lie in memory


def started() -> Ranks:
    """The ranks of this job. Ends the program, in one line, where they cannot be joined."""
    try:
        return start()
    except RanksError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def alone() -> None:
    """For a program that one process runs: ends it, in one line, if mpiexec started several."""
    ranks = started()
    if ranks.size > 1:
        name = Path(sys.argv[0]).name
        text = f"{name}: error: expected one rank, got {ranks.size}; start it without mpiexec"
        fail(ranks, text, lambda line: print(line, file=sys.stderr))
        raise SystemExit(2)


def check_alike(ranks: Ranks, facts: Callable[[], dict[str, Any]]) -> None:
    """Raise RanksError, the same on all ranks, if a fact is not the same on all of them."""
    if ranks.size == 1:
        return
    told = ranks.gather((ranks.name, facts()))
    first = told[0][1]
    for name, others in told:
        for fact in first | others:
            mine, wanted = others.get(fact), first.get(fact)
            if mine != wanted:
                raise RanksError(
                    f"{name}: expected {fact} {wanted!r}, as rank 0 has, got {mine!r}; start all "
                    "ranks with the same program, options and data"
                )


def of_program(options: dict[str, Any]) -> dict[str, Any]:
    """Facts on what runs: versions, the text of tinynet and of the program, the options."""
    sha = hashlib.sha256()
    for path in [*sorted(Path(tinynet.__file__).parent.rglob("*.py")), Path(sys.argv[0])]:
        if path.is_file():
            sha.update(path.read_bytes())
    given = {
        f"--{name.replace('_', '-')}": str(value)
        for name, value in options.items()
        if name not in OWN
    }
    versions = {"tinynet": tinynet.__version__, "numpy": metadata.version("numpy")}
    return {**versions, "the code's fingerprint": sha.hexdigest()[:12], **given}


def of_data(use: str, dataset: Any) -> dict[str, Any]:
    """Facts on a data set of pictures or of sequences: its size, and a fingerprint."""
    sha = hashlib.sha256()
    count = len(dataset)
    if hasattr(dataset, "picture"):
        sha.update(f"{dataset.shape} {dataset.classes}".encode())
        sha.update(np.ascontiguousarray(dataset.labels).data)
        seen = count if dataset.in_memory else min(SAMPLE, count)
        for place in np.linspace(0, count - 1, seen).astype(int).tolist():
            try:
                sha.update(np.ascontiguousarray(dataset.picture(place)).data)
            except (DataError, OSError):  # whoever trains on it is told
                sha.update(b"damaged")
    else:
        for array in dataset.batch(np.arange(count), None):
            sha.update(np.ascontiguousarray(array).data)
    facts = {f"{use} examples": count, f"the fingerprint of {use} data": sha.hexdigest()[:12]}
    return facts


def of_net(model: Module) -> dict[str, Any]:
    """Facts on a net: a fingerprint of its weights."""
    sha = hashlib.sha256()
    for name, array in model.state_dict().items():
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return {"the fingerprint of the weights": sha.hexdigest()[:12]}


def of_host(ranks: Ranks, args: argparse.Namespace) -> dict[str, Any]:
    """The settings that another rank than 0 was given for its own host."""
    given = {name: getattr(args, name, None) for name in ("data", "device", "workers")}
    return {name: value for name, value in given.items() if ranks.rank and value is not None}


def parsed(
    ranks: Ranks,
    parse: Callable[[Sequence[str] | None], argparse.Namespace],
    arguments: Sequence[str] | None,
) -> argparse.Namespace:
    """parse(arguments), which ends the program if they are wrong. A mistake, which all ranks find,
    is told once.
    """
    if ranks.size == 1:
        return parse(arguments)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            return parse(arguments)
    except SystemExit as exit:
        if exit.code:
            fail(ranks, said.getvalue().strip(), lambda text: print(text, file=sys.stderr))
        raise


def begin(ranks: Ranks, args: argparse.Namespace) -> None:
    """Before anything else: that the ranks are alike. ValueError for what one rank does alone."""
    for name in ("predict", "export", "import"):
        if getattr(args, name, None) and getattr(args, "epochs", None) is None:
            raise ValueError(f"--{name} is for one rank: start it without mpiexec")
    check_alike(ranks, lambda: of_program(vars(args)))
    share_cores(ranks)
    hosts = Counter(ranks.gather(ranks.host)).items()
    places = ", ".join(f"{count} on {host}" for host, count in hosts)
    print(f"{ranks.size} ranks, {places}; each computes its share of every batch")


@contextlib.contextmanager
def heard(ranks: Ranks) -> Iterator[None]:
    """While entered, what other ranks than 0 print goes nowhere; and an exception that nothing
    catches ends all ranks, after its traceback.
    """
    with contextlib.ExitStack() as held:
        if ranks.rank:
            nowhere = held.enter_context(open(os.devnull, "w"))
            held.enter_context(contextlib.redirect_stdout(nowhere))
            logger = logging.getLogger("tinynet")
            held.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)  # rank 0 has the same warnings
        try:
            yield
        except Exception:
            if ranks.size == 1:
                raise
            print(f"{ranks.name}:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            ranks.abort(1)


def share_cores(ranks: Ranks) -> None:
    """Let the ranks that may use the same cores take equal parts of them."""
    mine = ranks.host, cores.cores()
    cores.share(ranks.gather(mine).count(mine))
    if "TINYNET_NUM_THREADS" not in os.environ:
        tinynet.set_num_threads(cores.available_cores())


def fail(ranks: Ranks, text: str, complain: Callable[[str], None]) -> int:
    """Tell why this rank cannot go on, once if all ranks fail alike, and end the others. Gives the
    exit status.
    """
    texts, all_of_them = ranks.failures(text)
    for each in texts:
        complain(each)
    if not all_of_them:
        sys.stderr.flush()
        ranks.abort(2)
    return 2
