"""Program: the command line of an example, from its recipes to a trained, tested, used network."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinynet
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.program import exchange, options, published, runs
from tinynet.program.commandline import make_parser, refuse_others
from tinynet.program.pictures import Pictures
from tinynet.program.published import PUBLISHED, Imported
from tinynet.program.recipe import Recipe
from tinynet.program.warned import warnings_in_words
from tinynet.training import checkpoint
from tinynet.training.batch_size import fitting_batch_size
from tinynet.training.metrics import write_config
from tinynet.training.report import write_report
from tinynet.training.saving import TrainingError, check_same
from tinynet.training.task import Task
from tinynet.training.trainer import Trainer

# What may change when a run goes on; all else stays.
CHANGEABLE = {"device", "data", "epochs", "tf32", "workers", "skip_damaged"}
SHARED = (
    "preset", "device", "data", "epochs", "batch_size", "lr", "milestones", "seed", "workers",
    "tf32", "limit_batches", "skip_damaged",
)  # fmt: skip
KEEP = 3  # checkpoints besides the best
LATER = {"net", "noise_scale"}  # what checkpoints of older versions do not state


class Loaded(NamedTuple):
    """The nets of some checkpoints, what feeds and measures them, and what they are about."""

    models: list[Module]
    task: Any  # what the recipe's data makes
    about: dict
    recipe: Recipe


class Program:
    """`Program(...).main()` is a whole command line.

    description: for --help. recipes: by the name that --preset takes, the default first.
    build(about, devices): a net. state(preset): what checkpoints state of it, JSON, as
    about["net"]; build finds there what a run was started with, not what the preset says today.
    devices: the most devices that a net is split over. kernels: names of the first layer's weights,
    (O, C, h, w), one a tower: the report draws them.
    """

    def __init__(
        self,
        description: str,
        recipes: dict[str, Recipe],
        build: Callable[[dict, tuple[Device, ...]], Module],
        state: Callable[[str], dict] | None = None,
        devices: int = 1,
        kernels: Sequence[str] = (),
    ):
        self.description, self.recipes = description, recipes
        self.build, self.state = build, state
        self.devices, self.kernels = devices, kernels
        pictures = isinstance(next(iter(recipes.values())).data, Pictures)
        self._known = {**recipes, **(PUBLISHED if pictures else {})}

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command line. Returns the exit status: 2 after a mistake, 129, 130 or 143 if
        stopped by a signal.
        """
        parser = make_parser(self.description, self.recipes, self.devices)
        args = parser.parse_args(arguments)
        with warnings_in_words(parser.prog):
            return self._main(args, parser)

    def _main(self, args: argparse.Namespace, parser: options.Parser) -> int:
        try:
            refuse_others(args, parser)
            if args.threads:
                tinynet.set_num_threads(args.threads)
            if args.tf32:
                if self.find_devices(args.device)[0].kind != "cuda":
                    raise ValueError("--tf32 is for GPUs: give --device cuda:0")
                tinynet.set_tf32(True)
            if args.export:
                return exchange.export(self, args)
            imported = self._imported(args)
            if imported and args.epochs is None:
                return exchange.keep(imported, args, self)
            if args.eval:
                return self.evaluate(args)
            return self.predict(args) if args.predict else self.train(args, imported)
        except TrainingError as error:
            _complain(f"error: {error}{self._way_on(args, error)}")
            return 2
        except (tinynet.TinynetError, OSError, ValueError, MemoryError) as error:
            _complain(f"error: {str(error) or 'out of memory'}")
            return 2
        except KeyboardInterrupt:  # outside of training, where there is nothing to save
            return 130

    # ------------------------------------------------------------------ what it does

    def train(self, args: argparse.Namespace, imported: Imported | None = None) -> int:
        """From data to a trained network, and a page that tells how it went. imported: the weights
        that it starts from.
        """
        with contextlib.ExitStack() as held:
            if args.resume:  # held before anything in it is read
                args.out = held.enter_context(runs.go_on_in(args.out))
            settings = self._settings(args, imported)
            recipe = self._known[settings["preset"]]
            devices = self.find_devices(settings["device"])
            train_set, test_set = recipe.data.open(settings)
            saved = checkpoint.newest_whole(args.out)[:2] if args.resume else None
            about = {
                "preset": settings["preset"],
                **recipe.data.describe(settings, train_set),
                **self._stated(settings["preset"], saved, imported),
            }
            arrays = self._arrays(recipe, about, train_set, saved, imported)
            task = recipe.data.task(about, arrays, devices)
            if settings["batch_size"] == "auto":
                size = self._batch_size(recipe, about, devices, task, len(train_set))
                settings["batch_size"] = size

            tinynet.manual_seed(settings["seed"])
            with checkpoint.understood(saved[0]) if saved else contextlib.nullcontext():
                model = self.build_of(about, devices)
            if imported:
                published.start_from(model, imported)
            optimizer = recipe.optimizer(model, settings["lr"])
            schedule = recipe.make_schedule(optimizer, settings)
            of_data = recipe.data.changeable  # the loader looks for these itself
            story = [row for row in settings.get("story", ()) if row[1] not in of_data]
            batches = recipe.data.loader(settings, about, train_set, train=True)
            tests = recipe.data.loader(settings, about, test_set, train=False)
            held.enter_context(batches)
            held.enter_context(tests)
            if not args.resume:  # made last: no mistake leaves an empty run behind
                args.out = held.enter_context(runs.start_in(args.out, settings["preset"]))
            trainer = Trainer(
                model, optimizer, batches, tests, task, args.out, epochs=settings["epochs"],
                about=about, schedule=schedule, story=story,
                keep=args.keep or KEEP, max_minutes=args.max_time,
                limit_batches=settings.get("limit_batches"), advice=recipe.advice,
                skip_damaged=settings.get("skip_damaged") or 0, **args.checkpoint_every,
            )  # fmt: skip
            if settings.get("tf32") and devices[0].kind == "cuda":  # as the run was started
                tinynet.set_tf32(True)
            if args.resume:
                print(trainer.resume())
                trainer.edit(args.set)
            data = {
                name: [len(each), each.source if settings["data"] else "embedded"]
                for name, each in (("train", train_set), ("test", test_set))
            }
            drawn = (*self.kernels, *published.KERNELS)
            kernels = [name for name, _ in model.named_parameters() if name in drawn]
            write_config(args.out, settings, recipe.title, task, data, kernels, resumed=args.resume)
            self._tell(settings, recipe, trainer, data)
            ended = trainer.fit()
            if ended in signal.Signals.__members__:
                print(
                    f"stopped by {ended}\nsaved: {trainer.saver.last}\n"
                    f"to go on: {self._command(args.out)}\nreport: {write_report(args.out)}"
                )
                return 128 + signal.Signals[ended]
            self._finish(trainer, recipe)
        return 0

    def evaluate(self, args: argparse.Namespace) -> int:
        """--eval: the test result of one net, or of several averaged."""
        if args.batch_size == "auto":
            raise ValueError("--batch-size auto is for training: --eval takes a number")
        models, task, about, recipe = self.load(args.eval, args.device)
        settings = recipe.settings() | runs.data_settings(args.eval[0], args.data)
        if share := vars(args).get("val_share"):  # not every kind of data has it
            settings["val_share"] = share
        settings |= {
            "skip_damaged": 0,
            "batch_size": args.batch_size or 128,
            "workers": args.workers or 0,
            "seed": 0,
            "picture_size": about.get("picture_size"),
        }
        _, test_set = recipe.data.open(settings)
        with recipe.data.loader(settings, about, test_set, train=False) as tests:
            result = recipe.data.evaluate(models, task, tests, full=True)
        print(*recipe.data.tell(result), sep="\n")
        if chosen := runs.chosen_on(args.eval, settings["data"]):
            print(f"{chosen} on these {task.unit}: on new ones it will do a little worse")
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            recipe.data.save(result, args.out)
            print(f"the same, in numbers and pictures, in {args.out}")
        return 0

    def predict(self, args: argparse.Namespace) -> int:
        """--predict: what the net says of each file, and of each in a folder. Status 2 if one could
        not be read; the others are told all the same.
        """
        if len(args.predict) < 2:
            asked = next(iter(self.recipes.values())).data.asks[0]
            raise ValueError(f"--predict takes a CHECKPOINT and at least one {asked}")
        models, task, about, recipe = self.load(args.predict[:1], args.device)
        wanted: list[str] = []
        bad = 0
        for what in args.predict[1:]:
            found = recipe.data.files(what)
            if not found:
                raise ValueError(f"{what}: expected {task.unit} in this folder, got none")
            wanted += map(str, found)
        for what in wanted:
            try:
                print(*recipe.data.predict(models, task, about, what), sep="\n")
            except (tinynet.TinynetError, OSError, ValueError) as error:
                bad += 1
                _complain(f"error: {error}")
        if bad and len(wanted) > 1:
            _complain(f"{bad:,} of {len(wanted):,} could not be read")
        return 2 if bad else 0

    def load(self, paths: Sequence[str | Path], device: str | None = None) -> Loaded:
        """The nets of some checkpoints (or of runs' folders: their best), in eval() mode.

        Raises CheckpointError if one is damaged, or not of the same net and classes as the first.
        """
        devices = self.find_devices(device)
        models: list[Any] = []
        first: Any = None
        for path in map(runs.find_checkpoint, paths):
            saved = checkpoint.load(path)
            first = first or saved
            with checkpoint.understood(path):
                about = saved.state["about"]
                alike = first.state["about"].items()  # but each has a net of its own
                check_same(saved, {key: value for key, value in alike if key != "net"}, path)
                if about["preset"] not in self._known:
                    known = ", ".join(self._known)
                    raise tinynet.CheckpointError(
                        f"{path}: expected a net of this program ({known}), got {about['preset']}"
                    )
                models.append(self.build_of(about, devices))
                models[-1].load_state_dict(saved.model)
                models[-1].eval()
        about = first.state["about"]
        recipe = self._known[about["preset"]]
        with checkpoint.understood(Path(paths[0])):
            task = recipe.data.task(about, first.arrays, devices)
        return Loaded(models, task, about, recipe)

    # ------------------------------------------------------------------ parts of it

    def build_of(self, about: dict, devices: tuple[Device, ...]) -> Module:
        """The net that `about` says it is: this program's, or one of others."""
        return (self.build if about["preset"] in self.recipes else published.build)(about, devices)

    def _imported(self, args: argparse.Namespace) -> Imported | None:
        """The weights that --import names."""
        path = getattr(args, "import", None)
        return published.read(path, args.looks) if path else None

    def _arrays(
        self,
        recipe: Recipe,
        about: dict,
        train_set: Any,
        saved: tuple[Path, checkpoint.Checkpoint] | None,
        imported: Imported | None,
    ) -> dict[str, np.ndarray]:
        """What the task needs of the training set; a net of others brings its own along."""
        if imported is None:
            if saved and about["preset"] in PUBLISHED:
                return saved[1].arrays
            return recipe.data.arrays(about, train_set)
        for name in ("in_channels", "picture_size", "image_size"):
            if about[name] != imported.about[name]:
                raise ValueError(
                    f"--import: expected {name} {imported.about[name]}, as the net was trained on, "
                    f"got {about[name]}"
                )
        return {"mean": imported.mean}

    def _stated(
        self,
        preset: str,
        saved: tuple[Path, checkpoint.Checkpoint] | None,
        imported: Imported | None,
    ) -> dict:
        """What the recipe says in `about`; of a run that goes on, what its checkpoint says."""
        stated = self._known[preset].data.state()
        if preset in PUBLISHED:
            stated["net"] = imported.net if imported else None
            stated["scale"] = imported.about["scale"] if imported else None
        elif self.state:
            stated = {**stated, "net": self.state(preset)}
        if saved is None:
            return stated
        with checkpoint.understood(saved[0]):
            about = saved[1].state["about"]
            return {name: about[name] for name in stated if name in about or name not in LATER}

    def _tell(self, settings: dict, recipe: Recipe, trainer: Trainer, data: dict) -> None:
        """What is about to be trained on what, and what of it is not as in the recipe."""
        unit = trainer.task.unit
        (count, source), (tests, test_source) = data["train"], data["test"]
        print(
            f"training {recipe.title} on {settings['device']} with {count:,} {unit} ({source}), "
            f"tested on {tests:,} ({test_source}); see {trainer.out}"
        )
        given, own = settings["milestones"], list(recipe.milestones or [])
        if own and given == recipe.milestones_of(settings["epochs"]) != own:
            print(
                f"the rate is divided by ten after epochs {_list(given)}: the {_list(own)} of the "
                f"recipe's {recipe.epochs}, at the same shares of {settings['epochs']}"
            )
        if story := settings.get("story"):
            told = ", ".join(f"{name}={value} after epoch {epoch}" for epoch, name, value in story)
            print(f"as the recipe has it: {told}")
        if trainer.limit_batches:
            print(
                f"an epoch is {trainer.batches:,} of {len(trainer.train):,} batches "
                "(--limit-batches); the test is whole"
            )

    def _finish(self, trainer: Trainer, recipe: Recipe) -> None:
        """Test the best checkpoint once more, write the report, say what was reached."""
        folder, model, epochs = trainer.out, trainer.model, trainer.epoch
        best = runs.find_checkpoint(folder)
        model.load_state_dict(checkpoint.load(best).model)
        result = recipe.data.evaluate([model.eval()], trainer.task, trainer.test, full=False)
        recipe.data.save(result, folder)
        report = write_report(folder)
        size = sum(parameter.size for parameter in model.parameters())
        unit = trainer.task.unit
        shown = "curves, kernels and everything" if self.kernels else "curves and everything"
        chosen = f", the best of {epochs} epochs on these {unit}," if epochs > 1 else ""
        print(
            f"\nThe {recipe.title} ({size:,} parameters) has been through {epochs} of "
            f"{trainer.epochs} epochs. Its checkpoint {best}{chosen} "
            f"{recipe.data.reached(result)}. Look at {report} in a browser for {shown} else."
        )

    def _batch_size(
        self, recipe: Recipe, about: dict, devices: tuple[Device, ...], task: Task, examples: int
    ) -> int:
        """--batch-size auto: the recipe's if it fits the memory and there are so many examples,
        else the largest of its halves for which both hold. Says so.
        """
        model = self.build_of(about, devices)
        optimizer = recipe.optimizer(model, recipe.lr)

        def step(count: int) -> None:
            loss, _ = task.loss(model, *recipe.data.zeros(about, count, devices[0]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        size, reason = fitting_batch_size(step, devices, recipe.batch_size)
        if size > examples:
            reason = f"there are {examples} {task.unit} to train on"
        while size > examples:
            size //= 2
        print(
            f"batch size {size}: {reason}; the recipe of {about['preset']} has {recipe.batch_size}"
        )
        return size

    def _settings(self, args: argparse.Namespace, imported: Imported | None) -> dict:
        """What was given, and for the rest the recipe or, if a run goes on, what it was started
        with.
        """
        recipe = next(iter(self.recipes.values()))
        names = dict.fromkeys([*SHARED, *recipe.data.settings()])
        given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        if args.resume:
            changeable = CHANGEABLE | recipe.data.changeable
            settings = runs.settings_of(args.out, given, changeable)
            if settings["preset"] not in self._known:
                raise tinynet.CheckpointError(
                    f"{args.out}: expected a run of this program, got one of {settings['preset']}"
                )
            by_hand = given.keys() & recipe.data.changeable  # so the story no longer changes it
            story = [row for row in settings.get("story", ()) if row[1] not in by_hand]
            settings["story"] = story
            return settings
        if args.set:
            raise ValueError("--set changes a run that goes on: it needs --resume")
        preset = given.get("preset", next(iter(self.recipes)))
        if imported:
            preset = given["preset"] = imported.preset
            given.setdefault("picture_size", imported.about["picture_size"])
            given.setdefault("crop", imported.about["image_size"])
        recipe = self._known[preset]
        if "epochs" in given:
            given.setdefault("milestones", recipe.milestones_of(given["epochs"]))
            given["story"] = recipe.story_of(given["epochs"])
        return {
            **recipe.settings(),
            "preset": preset,
            "device": runs.default_devices(self.devices),
            "data": None,
            "seed": 0,
            "workers": None,
            "limit_batches": None,
            "skip_damaged": 0,
            **given,
        }

    def find_devices(self, names: str | None) -> tuple[Device, ...]:
        return runs.find_devices(names or runs.default_devices(self.devices), self.devices)

    def _way_on(self, args: argparse.Namespace, error: TrainingError) -> str:
        """How to go on where training could not: with another rate; or, after a full disk or with
        damaged data, the same again.
        """
        if not checkpoint.to_go_on_from(args.out):
            return ""
        cause, more = error.__cause__, ""
        if cause is None:
            more = " --set lr=..."
        elif isinstance(cause, tinynet.DataError):
            more = " [--skip-damaged N, to leave out at most N]"
        return f": {self._command(args.out)}{more}"

    @staticmethod
    def _command(folder: Path) -> str:
        """What goes on with the run in `folder`, to be pasted."""
        program, out = shlex.quote(sys.argv[0]), shlex.quote(str(folder))
        return f"python {program} --resume --out {out}"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _complain(line: str) -> None:
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
