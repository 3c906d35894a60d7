"""Pictures and their classes: the data of a program that learns to tell what a picture shows."""

from __future__ import annotations

import base64
import copy
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.data import (
    Dataset,
    Loader,
    PaddedDataset,
    PartDataset,
    colour_axes,
    fashion_mnist,
    mean_picture,
    open_data,
    ten_views,
)
from tinynet.data.pictures import in_words, list_pictures
from tinynet.devices import Device
from tinynet.devices.cores import available_cores
from tinynet.errors import CheckpointError
from tinynet.nn import Module
from tinynet.program.options import Parser, at_least, not_negative, one_or_two, share
from tinynet.program.recipe import Feeding
from tinynet.tensors import Tensor, tensor
from tinynet.training.evaluate import Evaluation, evaluate, probabilities, save_evaluation
from tinynet.training.inputs import Inputs, batch_of, has_colours, read_picture
from tinynet.training.plots import draw_confusion
from tinynet.training.task import Classification

log = logging.getLogger("tinynet.program")

LIKELY = 5  # classes that --predict names, and that the top-5 error is about
HARDEST = 20  # classes that --eval names


@dataclass(frozen=True)
class Pictures:
    """How pictures are cut, centred and varied. The first three are options of the command line.

    picture_size     side of whole pictures; None: as they are
    crop             side of what the net sees; None: seven eighths of photographs, all of grey
                     drawings, and what pictures were before `padding`
    colour           sigma of the colour noise (Krizhevsky et al. 2012, section 4.1)
    largest          the side to which larger photographs are shrunk
    padding          width of a border of zeros around whole pictures, so that a crop may be taken
                     anywhere (He et al. 2015, section 4.2)
    scale            what differences from the mean picture are multiplied by
    noise_scale      what they are multiplied by besides while there is colour noise: the program of
                     2012 divided by 1.1 then, in training alone
    centre_mean      subtract the mean picture's centre, not the part of it under the crop
    centred          in training, too, the centre is cut out, not a random place
    crop_chunk       so many pictures in a row share crop and mirroring
    flip             mirror pictures at random; None: photographs yes, grey drawings no
    border           zeros at the bottom and the right of what the net sees
    label_smoothing  see functional.cross_entropy
    auxiliary        see training.task.Classification
    """

    picture_size: int | None = None
    crop: int | None = None
    colour: float = 0.0
    largest: int | None = None
    padding: int = 0
    scale: float = 1.0
    noise_scale: float = 1.0
    centre_mean: bool = False
    centred: bool = False
    crop_chunk: int = 1
    flip: bool | None = None
    border: int = 0
    label_smoothing: float = 0.0
    auxiliary: float = 0.0

    changeable = {"colour"}
    asks = ("FILE", "what the net says of files, or of all pictures in a folder and below it")
    result = "logits"  # what an exported file calls what the net gives

    def settings(self) -> dict[str, Any]:
        return {
            "picture_size": self.picture_size,
            "crop": self.crop,
            "colour": self.colour,
            "val_share": None,
            "limit_pictures": None,
        }

    def add_options(self, parser: Parser, defaults: Callable[[str], str]) -> None:
        add = parser.group("the pictures")
        side = at_least(8)
        add(
            "--data",
            "folder {train,val}/CLASS/*.jpg|png (val: or valid, validation, test), CIFAR-10's "
            "archive, IDX files, or what prepare_imagenet.py made (without it: embedded "
            "pictures, a part of Fashion-MNIST)",
            metavar="PATH",
        )
        add(
            "--val-share",
            "for a folder without val: this share of train, or of the classes in PATH itself, "
            "becomes test pictures, such as 0.1; a picture's name says whether it does",
            type=share,
            metavar="SHARE",
        )
        largest = f"as they are, up to {self.largest}" if self.largest else "as they are"
        add(
            "--picture-size",
            f"side of whole pictures ({defaults('picture_size').replace('none', largest)})",
            type=side,
            metavar="N",
        )
        cut = "seven eighths; of grey ones, and of those with a border, all"
        add(
            "--crop",
            f"side of what the net sees of them ({defaults('crop').replace('none', cut)})",
            type=side,
            metavar="N",
        )
        add(
            "--colour",
            f"sigma of the colour noise ({defaults('colour')})",
            type=not_negative,
            metavar="SIGMA",
        )
        add(
            "--limit-pictures",
            "for trials: only so many pictures, spread evenly over all, to train on (and M to test "
            "on)",
            type=one_or_two,
            metavar="N[,M]",
        )

    def open(self, settings: dict) -> tuple[Dataset, Dataset]:
        sets: tuple[Dataset, Dataset]
        if settings["data"] is None:
            if settings.get("val_share"):
                raise ValueError("--val-share is for folders of pictures: name one with --data")
            sets, wanted = fashion_mnist(), settings["picture_size"]
            side = sets[0].shape[0]
            if wanted not in (None, side):
                raise ValueError(
                    f"the embedded pictures have sides of {side} pixels, not of {wanted}: name "
                    "photographs with --data"
                )
        else:
            sets = open_data(
                settings["data"],
                settings["picture_size"],
                self.largest,
                settings.get("val_share"),  # runs of older versions have none
            )
        if settings.get("skip_damaged") and sets[0].in_memory:
            raise ValueError(
                f"--skip-damaged: expected a folder that prepare_imagenet.py made, got "
                f"{sets[0].source}, whose pictures are all read at the start; give --skip-damaged 0"
            )
        limits = settings.get("limit_pictures") or []  # runs of older versions have none
        parts = [PartDataset(each, count) for each, count in zip(sets, limits, strict=False)]
        sets = (*parts, *sets[len(parts) :])  # type: ignore[assignment]
        if not self.padding:
            return sets
        return PaddedDataset(sets[0], self.padding), PaddedDataset(sets[1], self.padding)

    def describe(self, settings: dict, train: Dataset) -> dict[str, Any]:
        most, _, channels = train.shape
        side = most - 2 * self.padding
        if (settings["crop"] or 0) > most:
            raise ValueError(
                f"--crop: expected at most {most}, the side of the whole pictures, got "
                f"{settings['crop']}"
            )
        whole = self.padding or is_drawing(train)
        return {
            "classes": train.classes,
            "in_channels": channels,
            "picture_size": side,
            "image_size": settings["crop"] or (side if whole else side - side // 8),
        }

    def state(self) -> dict[str, Any]:
        more = {} if self.noise_scale == 1 else {"noise_scale": self.noise_scale}
        return {"scale": self.scale, **more}

    def arrays(self, about: dict, train: Dataset) -> dict[str, np.ndarray]:
        mean = mean_picture(train)
        if self.centre_mean:
            start = (len(mean) - about["image_size"]) // 2
            cut = slice(start, start + about["image_size"])
            mean = np.ascontiguousarray(mean[cut, cut])
        return {"mean": mean}

    def loader(self, settings: dict, about: dict, dataset: Dataset, train: bool) -> Loader:
        workers = settings["workers"]
        if workers is None:  # pictures that lie in memory need no processes to load them
            workers = 0 if dataset.in_memory else available_cores()
        sigma = settings["colour"] if train else 0.0
        told = settings.get("story", ()) if train else ()
        story = [(epoch, not_negative(value)) for epoch, name, value in told if name == "colour"]
        inner: Any = dataset
        if self.padding:  # a border has no colours
            inner = inner.dataset
        return Loader(
            dataset,
            settings["batch_size"],
            train=train,
            seed=settings["seed"],
            workers=workers,
            crop=about["image_size"],
            crop_chunk=self.crop_chunk,
            centred=self.centred,
            flip=self.mirrors(dataset),
            colour=colour_axes(inner.moments().covariance())
            if sigma or any(each for _, each in story)
            else None,
            colour_sigma=sigma,
            colour_story=story,
            skip_damaged=bool(settings.get("skip_damaged")),
        )

    def mirrors(self, dataset: Dataset) -> bool:
        """Whether these pictures are mirrored at random in training."""
        return not is_drawing(dataset) if self.flip is None else self.flip

    def task(
        self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]
    ) -> Classification:
        for name in ("in_channels", "picture_size", "image_size"):  # a checkpoint's may lack one
            if int(about[name]) < 1:
                raise ValueError(f"{name}: expected at least 1, got {about[name]}")
        if not math.isfinite(about["scale"]):
            raise ValueError(f"scale: expected a number, got {about['scale']}")
        # bytes from the host to each GPU, not floats from one GPU to the other
        second = devices[-1] if devices[-1].kind == "cuda" else None
        inputs = Inputs(
            devices[0], arrays["mean"], about["image_size"], about["scale"], second, self.border,
            noise_scale=about.get("noise_scale", 1.0),
        )  # fmt: skip
        return Classification(inputs, about["classes"], self.label_smoothing, self.auxiliary)

    def zeros(self, about: dict, count: int, device: Device) -> tuple[Tensor, Tensor]:
        side = about["image_size"] + self.border
        pictures = np.zeros((count, about["in_channels"], side, side), np.float32)
        with device.activate("zeros"):
            labels = device.upload(np.zeros(count, np.int64))
            return Tensor(device.upload(pictures), device), Tensor(labels, device)

    def evaluate(
        self, models: Sequence[Module], task: Classification, tests: Loader, full: bool
    ) -> dict[int, Evaluation]:
        """By number of views: the centre; and, if full, the ten of the paper (section 4.1), or
        those of them that differ and that training has mirrored as well.
        """
        knows, has = task.make_inputs.mean.shape[2], tests.dataset.shape[2]
        if knows != has:
            raise CheckpointError(
                f"expected pictures of {_channels(knows)}, as the net was trained on, got data of "
                f"{_channels(has)}; name other data with --data"
            )
        if tests.dataset.classes != task.classes:
            raise CheckpointError(
                f"expected the classes that the net was trained on, {_some(task.classes)}, got "
                f"{_some(tests.dataset.classes)}; name other data with --data"
            )
        ranks = task.steps.ranks
        mine = copy.copy(
            tests
        )  # whole batches: the same outputs, bit for bit, whoever computes them
        mine.share, mine.every = (0, 1), (ranks.rank, ranks.size)
        several = ten_views(tests.dataset.shape, tests.crop, self.mirrors(tests.dataset))
        return {
            views: evaluate(models, mine.epoch(0), task.each, task.classes, views, ranks)
            for views in sorted({1, len(several) if full else 1})
        }

    def tell(self, result: dict[int, Evaluation]) -> Iterator[str]:
        for views, found in result.items():
            words = {1: "centre view:", 2: "two views:", 5: "five views:", 10: "ten views:"}[views]
            yield (
                f"{words:<12} {_errors(found)}, loss {found.loss:.4f} ({found.count:,} pictures)"
            )
        if len(result) == 1:
            yield "one view: these pictures are neither cut nor mirrored, so all ten are the same"
        yield "the hardest classes, by top-1 error of the centre view:"
        errors = sorted(result[1].error_by_class().items(), key=lambda item: -item[1])
        for name, error in errors[:HARDEST]:
            yield f"  {error:5.1f} %  {name}"

    def save(self, result: dict[int, Evaluation], folder: Path) -> None:
        save_evaluation(result, folder)
        draw_confusion(result[1].confusion, result[1].classes, folder / "confusion.png")

    def reached(self, result: dict[int, Evaluation]) -> str:
        found = result[1]
        return (
            f"names {100 - found.top1_error:.2f} % of the {found.count:,} test pictures right: "
            f"{_errors(found)}"
        )

    def feeding(self, model: Module, task: Classification, about: dict, raw: bool) -> Feeding:
        """Floats (N, C, S, S), S the crop; or bytes (N, H, W, C), whole pictures seen through their
        centre.
        """
        inputs, channels = task.make_inputs, about["in_channels"]
        side, mean = about["image_size"], inputs.mean
        rng = np.random.default_rng(0)
        edges = (0, self.border, 0, self.border)
        whole = about["picture_size"] + 2 * self.padding
        about_pictures = {name: about[name] for name in ("classes", "in_channels", "picture_size",
                                                         "image_size", "scale")}  # fmt: skip
        edge = max(0, len(mean) - about["picture_size"]) // 2  # whoever reads it knows no padding
        seen = mean[edge : len(mean) - edge, edge : len(mean) - edge]
        picture = base64.b64encode(seen.astype("<f4").tobytes()).decode()
        metadata = {
            "classes": about["classes"],
            "mean": [round(float(m), 3) for m in mean.mean(axis=(0, 1))],
            "scale": inputs.scale,
            "crop": side,
            "tinynet": about_pictures | {"mean": picture, "mean_shape": seen.shape},
        }

        def bordered(pictures: Tensor) -> Any:
            return model(F.pad(pictures, edges) if self.border else pictures)

        def from_bytes(pictures: Tensor) -> Any:
            x = pictures.permute(0, 3, 1, 2).astype(np.float32)
            x = F.pad(x, (self.padding,) * 4) if self.padding else x
            top = (whole - side) // 2
            x = x[:, :, top : top + side, top : top + side]
            start = (len(mean) - side) // 2
            centre = mean[start : start + side, start : start + side].transpose(2, 0, 1)
            return bordered((x - tensor(centre, device=x.device)) * inputs.scale)

        if raw:
            n = about["picture_size"]
            example = rng.integers(0, 256, (1, n, n, channels), np.uint8)
            del metadata["tinynet"]  # these pictures are prepared in the file
            words = f"pictures, uint8 (N, {n}, {n}, {channels}), as they are"
            return Feeding(example, from_bytes, words, self.result, metadata)
        example = rng.normal(size=(1, channels, side, side)).astype(np.float32)
        n = about["picture_size"]
        part = f"the centre of {n} x {n}, " if n > side else ""
        words = (
            f"pictures, float32 (N, {channels}, {side}, {side}), {part}less the mean, times "
            f"{inputs.scale:g}"
        )
        return Feeding(example, bordered, words, self.result, metadata)

    def files(self, what: str) -> list[str]:
        """A file; or the pictures in a folder and in those below it that are not hidden, sorted by
        name. What else lies there is counted and told.
        """
        folder = Path(what)
        if not folder.is_dir():
            return [what]
        below = sorted(
            path
            for path in folder.rglob("*")
            if path.is_dir() and "/." not in f"/{path.relative_to(folder).as_posix()}"
        )
        found, others = zip(*map(list_pictures, (folder, *below)), strict=True)
        passed: Counter[str] = sum(others, Counter())
        del passed["folder"]
        if passed:
            log.warning("%s: passed over %s", what, in_words(passed))
        return sum(found, [])

    def predict(
        self, models: Sequence[Module], task: Classification, about: dict, what: str
    ) -> list[str]:
        batch = batch_of([self.read(about, what)], about["image_size"])
        likely = probabilities(models, batch, task.make_inputs)[0]
        note = " (its colours are left out: the net knows grey pictures)"
        return [what + note * (about["in_channels"] == 1 and has_colours(what))] + [
            f"  {100 * likely[k]:5.1f} %  {about['classes'][k]}"
            for k in np.argsort(-likely)[:LIKELY]
        ]

    def read(self, about: dict, path: str | Path) -> np.ndarray:
        """A picture file as those the net was trained on, uint8 (H, W, C). Raises DataError."""
        side = about["picture_size"]
        picture = read_picture(path, (side, side, about["in_channels"]))
        return np.pad(picture, [(self.padding, self.padding)] * 2 + [(0, 0)])


def is_drawing(pictures: Dataset) -> bool:
    """Grey sets are digits and clothes, centred and facing one way: neither cut nor mirrored,
    unlike photographs.
    """
    return pictures.shape[2] == 1


def _errors(found: Evaluation) -> str:
    """The top-1 error; and the top-5 error, where five classes are not all there are."""
    words = f"top-1 error {found.top1_error:.2f} %"
    if len(found.classes) > LIKELY:
        words += f", top-5 error {found.top5_error:.2f} %"
    return words


def _channels(count: int) -> str:
    return f"{count} channel{'s' * (count > 1)}"


def _some(classes: list[str]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:3])} ...)"
