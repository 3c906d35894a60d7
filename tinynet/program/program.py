"""Program: the command line of an example, from its recipes to a trained, tested, used network."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tinynet
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.program import runs
from tinynet.program.commandline import make_parser, refuse_others
from tinynet.program.recipe import Recipe
from tinynet.training import checkpoint
from tinynet.training.batch_size import fitting_batch_size
from tinynet.training.metrics import write_config
from tinynet.training.plots import draw_kernels
from tinynet.training.report import write_report
from tinynet.training.saving import TrainingError, check_same
from tinynet.training.task import Task
from tinynet.training.trainer import Trainer

CHANGEABLE = {"device", "data", "epochs", "tf32", "workers"}  # when a run goes on; all else stays
SHARED = (
    "preset", "device", "data", "epochs", "batch_size", "lr", "milestones", "seed", "workers",
    "tf32",
)  # fmt: skip


class Loaded(NamedTuple):
    """The nets of some checkpoints, what feeds and measures them, and what they are about."""

    models: list[Module]
    task: Task
    about: dict
    recipe: Recipe


class Program:
    """`Program(...).main()` is a whole command line.

    description: for --help. recipes: by the name that --preset takes, the default first.
    build(about, devices): a net. devices: the most devices that a net is split over. kernels(net):
    the first layer's weights, (O, C, h, w) arrays, one a tower, to be drawn at the end of a run.
    """

    def __init__(
        self,
        description: str,
        recipes: dict[str, Recipe],
        build: Callable[[dict, tuple[Device, ...]], Module],
        devices: int = 1,
        kernels: Callable[[Module], Sequence[np.ndarray]] | None = None,
    ):
        self.description, self.recipes, self.build = description, recipes, build
        self.devices, self.kernels = devices, kernels

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command line. Returns the exit status: 2 after a mistake, 130 or 143 if stopped by
        a signal.
        """
        parser = make_parser(self.description, self.recipes, self.devices)
        args = parser.parse_args(arguments)
        try:
            refuse_others(args, parser)
            if args.threads:
                tinynet.set_num_threads(args.threads)
            if args.tf32:
                if self._find_devices(args.device)[0].kind != "cuda":
                    raise ValueError("--tf32 is for GPUs: give --device cuda:0")
                tinynet.set_tf32(True)
            if args.eval:
                return self.evaluate(args)
            return self.predict(args) if args.predict else self.train(args)
        except TrainingError as error:
            print(f"{parser.prog}: error: {error}{self._way_on(args, error)}", file=sys.stderr)
            return 2
        except (tinynet.TinynetError, OSError, ValueError) as error:
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:  # outside of training, where there is nothing to save
            return 130

    # ------------------------------------------------------------------ what it does

    def train(self, args: argparse.Namespace) -> int:
        """From data to a trained network, and a page that tells how it went."""
        settings = self._settings(args)
        recipe = self.recipes[settings["preset"]]
        devices = self._find_devices(settings["device"])
        train_set, test_set = recipe.data.open(settings)
        about = {"preset": settings["preset"], **recipe.data.describe(settings, train_set)}
        task = recipe.data.task(about, recipe.data.arrays(about, train_set), devices)
        if settings["batch_size"] == "auto":
            size = self._batch_size(recipe, about, devices, task, len(train_set))
            settings["batch_size"] = size

        tinynet.manual_seed(settings["seed"])
        model = self.build(about, devices)
        optimizer = recipe.optimizer(model, settings["lr"])
        schedule = recipe.make_schedule(optimizer, settings)
        with (
            recipe.data.loader(settings, about, train_set, train=True) as batches,
            recipe.data.loader(settings, about, test_set, train=False) as tests,
        ):
            folder = args.out if args.resume else runs.make_folder(args.out, settings["preset"])
            args.out = folder
            trainer = Trainer(
                model, optimizer, batches, tests, task, folder, epochs=settings["epochs"],
                about=about, schedule=schedule, keep=args.keep, limit_batches=args.limit_batches,
                max_minutes=args.max_time, advice=recipe.advice, **args.checkpoint_every,
            )  # fmt: skip
            if settings.get("tf32") and devices[0].kind == "cuda":  # as the run was started
                tinynet.set_tf32(True)
            if args.resume:
                print(trainer.resume())
                trainer.edit(args.set)
            write_config(folder, settings, recipe.title, task, resumed=args.resume)
            print(
                f"training {recipe.title} on {settings['device']} with {len(train_set):,} "
                f"{task.unit}; see {folder}"
            )
            ended = trainer.fit()
            if ended in ("SIGINT", "SIGTERM"):
                saved = trainer.saver.last
                print(f"stopped by {ended}; saved {saved}; to go on: --resume --out {folder}")
                return 128 + signal.Signals[ended]
            self._finish(trainer, recipe)
        return 0

    def evaluate(self, args: argparse.Namespace) -> int:
        """--eval: the test result of one net, or of several averaged."""
        if args.batch_size == "auto":
            raise ValueError("--batch-size auto is for training: --eval takes a number")
        models, task, about, recipe = self.load(args.eval, args.device)
        settings = recipe.settings() | {
            "data": args.data or runs.data_of(args.eval[0]),
            "batch_size": args.batch_size or 128,
            "workers": args.workers or 0,
            "seed": 0,
            "picture_size": about.get("picture_size"),
        }
        _, test_set = recipe.data.open(settings)
        with recipe.data.loader(settings, about, test_set, train=False) as tests:
            result = recipe.data.evaluate(models, task, tests, full=True)
        print(*recipe.data.tell(result), sep="\n")
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            recipe.data.save(result, args.out)
            print(f"the same, in numbers and pictures, in {args.out}")
        return 0

    def predict(self, args: argparse.Namespace) -> int:
        """--predict: what the net says of each file."""
        if len(args.predict) < 2:
            raise ValueError("--predict takes a CHECKPOINT and at least one FILE")
        models, task, about, recipe = self.load(args.predict[:1], args.device)
        for what in args.predict[1:]:
            print(*recipe.data.predict(models, task, about, what), sep="\n")
        return 0

    def load(self, paths: Sequence[str | Path], device: str | None = None) -> Loaded:
        """The nets of some checkpoints (or of runs' folders: their best), in eval() mode.

        Raises CheckpointError if one is damaged, or not of the same net and classes as the first.
        """
        devices = self._find_devices(device)
        models, first = [], None
        for path in map(runs.find_checkpoint, paths):
            saved = checkpoint.load(path)
            about = saved.state.get("about", {})
            if "preset" not in about:
                raise tinynet.CheckpointError(
                    f"{path} is not a checkpoint of a run: it does not say which net it is of"
                )
            first = first or saved
            check_same(saved, first.state["about"], path)
            if about["preset"] not in self.recipes:
                known = ", ".join(self.recipes)
                raise tinynet.CheckpointError(
                    f"{path}: expected a net of this program ({known}), got {about['preset']}"
                )
            models.append(self.build(about, devices))
            models[-1].load_state_dict(saved.model)
            models[-1].eval()
        about = first.state["about"]
        recipe = self.recipes[about["preset"]]
        return Loaded(models, recipe.data.task(about, first.arrays, devices), about, recipe)

    # ------------------------------------------------------------------ parts of it

    def _finish(self, trainer: Trainer, recipe: Recipe) -> None:
        """Test the best checkpoint once more, draw what there is to see, say what was reached."""
        folder, model = trainer.out, trainer.model
        best = runs.find_checkpoint(folder)
        model.load_state_dict(checkpoint.load(best).model)
        result = recipe.data.evaluate([model.eval()], trainer.task, trainer.test, full=False)
        recipe.data.save(result, folder)
        pictures = [f"at {folder / 'curves.png'} for the curves"]
        if self.kernels:
            draw_kernels(self.kernels(model), folder / "kernels.png")
            pictures.append(f"at {folder / 'kernels.png'} for the first layer's kernels")
        report = write_report(folder)
        size = sum(parameter.size for parameter in model.parameters())
        print(
            f"\nThe {recipe.title} ({size:,} parameters) has been through {trainer.epoch} of "
            f"{trainer.epochs} epochs. At its best ({best}) it {recipe.data.reached(result)}. Look "
            f"{', '.join(pictures)}, and at {report} in a browser for everything together."
        )

    def _batch_size(
        self, recipe: Recipe, about: dict, devices: tuple[Device, ...], task: Task, examples: int
    ) -> int:
        """--batch-size auto: the recipe's if it fits the memory and there are so many examples,
        else the largest of its halves for which both hold. Says so.
        """
        model = self.build(about, devices)
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

    def _settings(self, args: argparse.Namespace) -> dict:
        """What was given, and for the rest the recipe or, if a run goes on, what it was started
        with.
        """
        recipe = next(iter(self.recipes.values()))
        names = dict.fromkeys([*SHARED, *recipe.data.settings()])
        given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        if args.resume:
            args.out = args.out or runs.newest_folder()
            changeable = CHANGEABLE | recipe.data.changeable
            settings = runs.settings_of(args.out, given, changeable)
            if settings["preset"] not in self.recipes:
                raise tinynet.CheckpointError(
                    f"{args.out}: expected a run of this program, got one of {settings['preset']}"
                )
            return settings
        if args.set:
            raise ValueError("--set changes a run that goes on: it needs --resume")
        preset = given.get("preset", next(iter(self.recipes)))
        return {
            **self.recipes[preset].settings(),
            "preset": preset,
            "device": runs.default_devices(self.devices),
            "data": None,
            "seed": 0,
            "workers": None,
            **given,
        }

    def _find_devices(self, names: str | None) -> tuple[Device, ...]:
        return runs.find_devices(names or runs.default_devices(self.devices), self.devices)

    @staticmethod
    def _way_on(args: argparse.Namespace, error: TrainingError) -> str:
        """What the command line offers where training cannot go on: another rate, or, after a full
        disk, nothing else than before.
        """
        if not checkpoint.all_in(args.out):
            return ""
        edit = "" if isinstance(error.__cause__, OSError) else " --set lr=..."
        return f": --resume --out {args.out}{edit}"
