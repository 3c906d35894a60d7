"""Steps: what ranks do together in one step of training, each on its share of the batch.

    L = sum over ranks r of w_r L_r        w_r: the share of rank r in what L is a mean over

so each rank begins backward with w_r instead of 1, and a gradient is the sum of those of all ranks.

Gradients travel in buckets while backward goes on. A leaf's gradient is finished after the visit of
the oldest node that uses the leaf, since the walk goes from the newest to the oldest. It is copied
to its place in its bucket, and a bucket whose places are full is summed over the ranks behind the
program's back. Buckets begin in the order in which the first backward filled them, on every rank.

Source: Goyal et al., "Accurate, large minibatch SGD", 2017, section 4; Li et al., "PyTorch
distributed", VLDB 2020, section 3.2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tinynet.devices import Device
from tinynet.parallel.factors import Factors
from tinynet.parallel.ranks import ALONE, Ranks
from tinynet.sharing import Share, shared
from tinynet.tape import Node, gather, walk
from tinynet.tensors import Tensor

BUCKET = 16 << 20  # bytes: large enough for a link's full rate, small enough to begin early


class Steps:
    """The steps of a job of one process: `backward` is `loss.backward()`."""

    ranks: Ranks = ALONE

    def share(self, count: int, weight: float) -> contextlib.AbstractContextManager[Any]:
        """While entered, forward computes this rank's `count` examples of a batch; weight: how many
        values its loss is a mean of. Gives the number of examples in all. All ranks must call it.
        """
        return contextlib.nullcontext(count)

    def backward(self, loss: Tensor, figures: Sequence[Any] = ()) -> Sequence[Any]:
        """Set the gradients of the whole batch's mean loss; return the figures' means over it.

        loss, figures: means over this rank's share; figures are arrays without axes, on the
        device of loss.
        """
        loss.backward()
        return figures


class SharedSteps(Steps):
    """The steps of several ranks with the same parameters."""

    def __init__(self, ranks: Ranks, parameters: Iterable[Tensor], factors: bool):
        self.ranks, self.parameters = ranks, list(parameters)
        self.factors = Factors() if factors else None
        self.buckets: list[Bucket] = []
        self.place: dict[Tensor, Bucket] = {}
        self.weight: float  # of this rank in the batch, from 0 to 1; set by share, as counts
        self.counts: Sequence[int]  # examples of each rank in this batch
        self.sent = 0.0  # bytes that leave this rank by rings, since the start
        self.gpus: Any = None  # who sums on GPUs

    @contextlib.contextmanager
    def share(self, count: int, weight: float) -> Iterator[int]:
        told = self.ranks.gather((count, weight))
        counts, weights = zip(*told, strict=True)
        self.weight = weight / sum(weights)
        self.counts, first = counts, sum(counts[: self.ranks.rank])
        with shared(Share(first, count, sum(counts), self.ranks.gather)):
            yield sum(counts)

    def backward(self, loss: Tensor, figures: Sequence[Any] = ()) -> Sequence[Any]:
        device = loss.device
        with device.activate("backward"):
            means = device.empty((len(figures),), np.float64)
            for i, figure in enumerate(figures):
                means[i] = figure
            means *= self.weight
            first = device.xp.full(loss.shape, self.weight, loss.dtype)
        under_way = [self._begin(means, device)] if len(figures) else []
        finished_at = last_uses(loss)
        if self.factors:
            self.factors.prepare(nodes_behind(loss), self.counts, self.ranks.rank)
        if not self.buckets:
            self._lay_out([leaf for leaves in finished_at.values() for leaf in leaves])
        leaves: dict[Tensor, Any] = {}
        waiting = iter(self.buckets)
        bucket: Any = next(waiting, None)
        for visit in walk(loss, first, False):
            gather(leaves, *visit)
            if self.factors and visit[0] in self.factors.nodes:
                self.factors.visit(visit[0], visit[1][0], self._begin_gather)
            for leaf in finished_at.pop(visit[0], ()):
                if leaf in leaves and leaf in self.place:
                    self.place[leaf].put(leaf, leaves.pop(leaf))
            del visit  # or its memory would be held while the walk goes on
            while bucket is not None and bucket.full:
                under_way.append(self._begin(bucket.close(), bucket.device))
                bucket = next(waiting, None)
            for request in under_way:  # MPI moves bytes while it is asked
                request.Test()
        while bucket is not None:  # those with parameters that this step did not use
            under_way.append(self._begin(bucket.close(), bucket.device))
            bucket = next(waiting, None)
        for request in under_way:
            request.Wait()
        for bucket in self.buckets:
            bucket.hand_out()
        if self.factors:
            self.factors.hand_out()
        with device.activate("backward"):
            return [means[i] for i in range(len(figures))]

    def _begin(self, array: Any, device: Device) -> Any:
        K = self.ranks.size
        self.sent += array.nbytes * 2 * (K - 1) / K
        if device.kind == "cpu":
            return self.ranks.begin_sum(array)
        return self._on_gpus().begin(array, device)

    def _begin_gather(self, array: Any, device: Device) -> tuple[Any, Any]:
        self.sent += array.nbytes * (self.ranks.size - 1)
        if device.kind == "cpu":
            return self.ranks.begin_gather(array)
        return self._on_gpus().begin_gather(array, device)

    def _on_gpus(self) -> Any:
        if self.gpus is None:
            from tinynet.parallel.nccl import NcclSums  # CuPy may be missing where no GPU is used

            self.gpus = NcclSums(self.ranks)
        return self.gpus

    def _lay_out(self, in_order: list[Tensor]) -> None:
        """Make the buckets, in the order of rank 0's backward; what it did not use comes last."""
        number = {parameter: i for i, parameter in enumerate(self.parameters)}
        apart = (self.factors.weights if self.factors else None) or set()
        order = [number[leaf] for leaf in in_order if leaf in number]
        order += sorted(set(number.values()) - set(order))
        order = [i for i in order if self.parameters[i] not in apart]
        ordered = [self.parameters[i] for i in self.ranks.gather(order)[0]]
        made: list[list[Tensor]] = []
        filling: dict[tuple[Device, Any], list[Tensor]] = {}
        for parameter in ordered:
            kind = parameter.device, parameter.dtype
            bucket = filling.get(kind)
            if bucket is None or sum(p.data.nbytes for p in [*bucket, parameter]) > BUCKET:
                bucket = filling[kind] = []
                made.append(bucket)
            bucket.append(parameter)
        # Those that are full first are first: their last parameters come early.
        when = {parameter: i for i, parameter in enumerate(ordered)}
        made.sort(key=lambda bucket: when[bucket[-1]])
        self.buckets = [Bucket(parameters) for parameters in made]
        self.place = {p: bucket for bucket in self.buckets for p in bucket.parameters}


def steps_of(ranks: Ranks, parameters: Iterable[Tensor] = (), factors: bool = False) -> Steps:
    """The steps of these ranks; the parameters are those that learn. factors: fully connected
    layers exchange factors where these are fewer bytes (factors.py).
    """
    return SharedSteps(ranks, parameters, factors) if ranks.size > 1 else Steps()


class Bucket:
    """Gradients of some parameters of one device in one flat array, and behind them for each a
    number: how many ranks have one.
    """

    def __init__(self, parameters: list[Tensor]):
        self.parameters, self.device = parameters, parameters[0].device
        ends = np.cumsum([parameter.size for parameter in parameters]).tolist()
        self.slices = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
        self.size = ends[-1]
        self.flat = self.device.empty((self.size + len(parameters),), parameters[0].dtype)
        self.number = {parameter: i for i, parameter in enumerate(parameters)}
        self.arrived: set[Tensor] = set()

    @property
    def full(self) -> bool:
        return len(self.arrived) == len(self.parameters)

    def put(self, parameter: Tensor, gradient: Any) -> None:
        """Copy a gradient to its place."""
        i = self.number[parameter]
        with self.device.activate("bucket", (gradient,)):
            self.flat[self.slices[i]].reshape(parameter.shape)[...] = gradient
            self.flat[self.size + i] = 1
        self.arrived.add(parameter)

    def close(self) -> Any:
        """The whole array, zeros where nothing has arrived."""
        with self.device.activate("bucket"):
            for i, parameter in enumerate(self.parameters):
                if parameter not in self.arrived:
                    self.flat[self.slices[i]] = 0
                    self.flat[self.size + i] = 0
        return self.flat

    def hand_out(self) -> None:
        """Let each parameter's gradient be its part of the sum; None if no rank has one."""
        for i, parameter in enumerate(self.parameters):
            # Only where this rank has none is the device asked, and so waited for.
            if parameter in self.arrived or self.device.download(self.flat[self.size + i :][:1])[0]:
                part = self.flat[self.slices[i]].reshape(parameter.shape)
                parameter.grad = Tensor(part, self.device)
        self.arrived.clear()


def nodes_behind(y: Tensor) -> Iterator[Node]:
    """Every node that y was computed by, once."""
    seen: set[Node] = set()
    todo = [y.node[0]] if y.node else []
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [source[0] for source in node.inputs or () if type(source) is tuple]
            yield node


def last_uses(y: Tensor) -> dict[Node, list[Tensor]]:
    """For each node behind y the leaves that no older node uses, the newest nodes first: after its
    visit their gradients are finished.
    """
    oldest: dict[Tensor, Node] = {}
    for node in nodes_behind(y):
        for leaf in node.inputs or ():
            if isinstance(leaf, Tensor):
                if leaf not in oldest or node.number < oldest[leaf].number:
                    oldest[leaf] = node
    found: dict[Node, list[Tensor]] = {}
    for leaf, node in sorted(oldest.items(), key=lambda pair: -pair[1].number):
        found.setdefault(node, []).append(leaf)
    return found
