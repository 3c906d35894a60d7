"""Program: the command line of an example, from its recipes to a trained, tested, used network."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinynet
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.parallel.ranks import ALONE
from tinynet.parallel.steps import steps_of
from tinynet.program import exchange, options, published, runs, together
from tinynet.program.commandline import asked, make_parser, refuse_others
from tinynet.program.pictures import Pictures
from tinynet.program.published import PUBLISHED, Imported
from tinynet.program.recipe import Recipe, Variant
from tinynet.program.starting import (
    batch_size_that_fits,
    begin_from,
    other_data,
    scale_fixed,
    scaled,
    tell,
)
from tinynet.program.warned import warnings_in_words
from tinynet.training import checkpoint
from tinynet.training.metrics import write_config
from tinynet.training.report import write_report
from tinynet.training.saving import TrainingError, check_same
from tinynet.training.trainer import Trainer

# What may change when a run goes on; all else stays.
CHANGEABLE = {"device", "data", "epochs", "tf32", "workers", "skip_damaged"}
SHARED = (
    "preset", "device", "data", "epochs", "batch_size", "lr", "milestones", "seed", "workers",
    "tf32", "limit_batches", "skip_damaged", "variant", "start_from", "scale_lr",
)  # fmt: skip
KEEP = 3  # checkpoints besides the best
LATER = {"net", "noise_scale"}  # what checkpoints of older versions do not state
OWN = {"net", "preset", "variant", "scale", "noise_scale"}  # nets that are averaged may differ so


class Loaded(NamedTuple):
    """The nets of some checkpoints, what feeds and measures them, and what they are about."""

    models: list[Module]
    task: Any  # what the recipe's data makes
    about: dict
    recipe: Recipe


class Program:
    """`Program(...).main()` is a whole command line.

    description: for --help. recipes: by the name that --preset takes, the default first.
    build(about, devices): a net. state(preset, variant): what checkpoints state of it, JSON, as
    about["net"]; build finds there what a run was started with, not what the preset says today.
    devices: the most devices that a net is split over. kernels: names of the first layer's weights,
    (O, C, h, w), one a tower: the report draws them. variants: by the name that --variant takes.
    head: the name of the layer that names classes: --start-from leaves it new for other classes.
    """

    def __init__(
        self,
        description: str,
        recipes: dict[str, Recipe],
        build: Callable[[dict, tuple[Device, ...]], Module],
        state: Callable[[str, str | None], dict] | None = None,
        devices: int = 1,
        kernels: Sequence[str] = (),
        variants: Mapping[str, Variant] = {},
        head: str = "",
    ):
        self.description, self.recipes = description, recipes
        self.build, self.state = build, state
        self.devices, self.kernels = devices, kernels
        self.variants, self.head = variants, head
        self.ranks = ALONE
        pictures = isinstance(next(iter(recipes.values())).data, Pictures)
        self._known = {**recipes, **(PUBLISHED if pictures else {})}

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run a command line. Returns the exit status: 2 after a mistake, 129, 130 or 143 if
        stopped by a signal.
        """
        parser = make_parser(
            self.description, self.recipes, self.devices, self.variants, bool(self.head)
        )
        self.ranks = together.started()
        with together.heard(self.ranks), warnings_in_words(parser.prog):
            args = together.parsed(self.ranks, parser.parse_args, arguments)
            return self._main(args, parser)

    def _main(self, args: argparse.Namespace, parser: options.Parser) -> int:
        try:
            refuse_others(args, parser)
            if self.ranks.size > 1:
                together.begin(self.ranks, args)
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
            return self._fail(f"error: {error}{self._way_on(args, error)}")
        except (tinynet.TinynetError, OSError, ValueError, MemoryError) as error:
            return self._fail(f"error: {str(error) or 'out of memory'}")
        except KeyboardInterrupt:  # outside of training, where there is nothing to save
            self.ranks.abort(130)
            return 130

    # ------------------------------------------------------------------ what it does

    def train(self, args: argparse.Namespace, imported: Imported | None = None) -> int:
        """From data to a trained network, and a page that tells how it went. imported: the weights
        that it starts from.
        """
        with contextlib.ExitStack() as held:
            first = self.ranks.first
            if args.resume:  # held before anything in it is read
                args.out = first(lambda: held.enter_context(runs.go_on_in(args.out, self.owns)))
            settings = first(lambda: self._settings(args, imported))
            settings |= together.of_host(self.ranks, args)
            preset, variant = settings["preset"], settings.get("variant")
            recipe = self.recipe(preset, variant)
            devices = self.find_devices(settings["device"])
            run = args.out if args.resume else None
            train_set, test_set = runs.open_data(recipe.data, settings, run, args.data)
            together.check_alike(
                self.ranks,
                lambda: (
                    together.of_data("training", train_set) | together.of_data("test", test_set)
                ),
            )
            saved = first(lambda: checkpoint.newest_whole(args.out)[:2]) if args.resume else None
            about = {
                "preset": preset,
                **({"variant": variant} if variant else {}),
                **recipe.data.describe(settings, train_set),
                **self._stated(preset, variant, saved, imported),
            }
            arrays = self._arrays(recipe, about, train_set, saved, imported)
            task = recipe.data.task(about, arrays, devices)
            if settings["batch_size"] == "auto":
                if self.ranks.size > 1:
                    raise ValueError("--batch-size auto is for one rank: give the whole batch's")
                trial = self.build_of(about, devices)
                size = batch_size_that_fits(trial, recipe, about, devices, task, len(train_set))
                settings["batch_size"] = size

            tinynet.manual_seed(settings["seed"])
            with checkpoint.understood(saved[0]) if saved else contextlib.nullcontext():
                model = self.build_of(about, devices)
            if imported:
                published.start_from(model, imported)
            if settings.get("start_from") and not args.resume:
                print(begin_from(model, about, settings["start_from"], self.head))
            self._share(task, model, args.exchange)
            optimizer = recipe.optimizer(model, settings["lr"])
            if not args.resume:
                scale_fixed(optimizer, settings, recipe)
            schedule = recipe.make_schedule(optimizer, settings)
            of_data = recipe.data.changeable  # the loader looks for these itself
            story = [row for row in settings.get("story", ()) if row[1] not in of_data]
            batches = recipe.data.loader(settings, about, train_set, train=True)
            tests = recipe.data.loader(settings, about, test_set, train=False)
            for loader in (batches, tests):
                held.enter_context(loader)
                loader.share = self.ranks.rank, self.ranks.size
            if not args.resume:  # made last: no mistake leaves an empty run behind
                args.out = first(lambda: held.enter_context(runs.start_in(args.out, preset)))
            trainer = Trainer(
                model, optimizer, batches, tests, task, args.out, epochs=settings["epochs"],
                about=about, schedule=schedule, story=story,
                keep=args.keep or KEEP, max_minutes=args.max_time,
                limit_batches=settings.get("limit_batches"), advice=recipe.advice,
                skip_damaged=settings.get("skip_damaged") or 0, **args.checkpoint_every,
            )  # fmt: skip
            if settings.get("tf32") and devices[0].kind == "cuda":  # as the run was started
                tinynet.set_tf32(True)
            data = {
                name: [len(each), each.source]
                for name, each in (("train", train_set), ("test", test_set))
            }
            if saved:
                line = trainer.resume()
                trainer.edit(args.set)  # a mistake in it is told alone
                print(line)
                if args.set:
                    late = ", once a larger --epochs goes on" * (trainer.epoch == trainer.epochs)
                    print(f"now {', '.join('='.join(each) for each in args.set)}{late}")
                if all(group["frozen"] for group in optimizer.param_groups):
                    print("all layers are frozen: none learns; --set thaw=NAME lets one learn")
                had = saved[1].arrays
                if line := first(lambda: other_data(args.out, data, had, task)):
                    print(line)
            drawn = (*self.kernels, *published.KERNELS)
            kernels = [name for name, _ in model.named_parameters() if name in drawn]
            about_run = settings, recipe.title, task, data, kernels, args.resume, self.ranks.size
            first(lambda: write_config(args.out, *about_run))
            tell(settings, recipe, trainer, data, "lr" in dict(args.set))
            ended = trainer.fit()
            if ended in signal.Signals.__members__:
                report = first(lambda: write_report(args.out))
                print(
                    f"stopped by {ended}\nsaved: {trainer.saver.last}\n"
                    f"to go on: {self._command(args.out)}\nreport: {report}"
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
        _, test_set = runs.open_data(recipe.data, settings, args.eval[0], args.data)
        together.check_alike(self.ranks, lambda: together.of_data("test", test_set))
        for model in models:
            self._share(task, model)
        with recipe.data.loader(settings, about, test_set, train=False) as tests:
            tests.share = self.ranks.rank, self.ranks.size
            result = recipe.data.evaluate(models, task, tests, full=True)
        if len(models) > 1:
            print(f"the average of {len(models)} nets:")
        print(*recipe.data.tell(result), sep="\n")
        if chosen := runs.chosen_on(args.eval, settings["data"]):
            print(f"{chosen} on these {task.unit}: on new ones it will do a little worse")
        if args.out and self.ranks.rank == 0:
            args.out.mkdir(parents=True, exist_ok=True)
            recipe.data.save(result, args.out)
            print(f"the same, in numbers and pictures, in {args.out}")
        return 0

    def predict(self, args: argparse.Namespace) -> int:
        """--predict: what the net says of each file, and of each in a folder. Status 2 if one could
        not be read; the others are told all the same.
        """
        if len(args.predict) < 2:
            takes, gives = asked(self.recipes)
            raise ValueError(f"--predict takes a CHECKPOINT and at least one {takes}: {gives}")
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
                said = list(recipe.data.predict(models, task, about, what))
            except OSError as error:
                bad += 1
                _complain(f"error: {what} cannot be read: {error.strerror or error}")
            except (tinynet.TinynetError, ValueError) as error:
                bad += 1
                _complain(f"error: {error}")
            else:  # not inside: a closed pipe is no fault of the file
                print(*said, sep="\n")
        if bad and len(wanted) > 1:
            _complain(f"{bad:,} of {len(wanted):,} could not be read")
        return 2 if bad else 0

    def load(self, paths: Sequence[str | Path], device: str | None = None) -> Loaded:
        """The nets of some checkpoints (or of runs' folders: their best), in eval() mode.

        Raises CheckpointError if one is damaged, or does not see the same pictures and classes as
        the first.
        """
        devices = self.find_devices(device)
        models: list[Any] = []
        loaded: Any = None
        for path in map(runs.find_checkpoint, paths):
            saved = checkpoint.load(path)
            with checkpoint.understood(path):
                about = saved.state["about"]
                if loaded:
                    alike = {key: each for key, each in loaded.about.items() if key not in OWN}
                    check_same(saved, alike, path)
                recipe = self.recipe(about["preset"], about.get("variant"), str(path))
                models.append(self.build_of(about, devices))
                models[-1].load_state_dict(saved.model)
                models[-1].eval()
                task = recipe.data.task(about, saved.arrays, devices)
                if loaded:
                    loaded.task.also(task)
                loaded = loaded or Loaded(models, task, about, recipe)
        return loaded

    # ------------------------------------------------------------------ parts of it

    def recipe(self, preset: str, variant: str | None = None, where: str = "recipe") -> Recipe:
        """How a net is trained. Raises CheckpointError for names that the program does not have."""
        for name, known in ((preset, self._known), (variant or "", ("", *self.variants))):
            if name not in known:
                raise tinynet.CheckpointError(
                    f"{where}: expected a net of this program ({', '.join(filter(None, known))}), "
                    f"got {name}"
                )
        recipe = self._known[preset]
        return self.variants[variant].of(recipe, variant) if variant else recipe

    def owns(self, config: dict) -> bool:
        """Whether the config.json of a run is of this program: a preset of another one may have the
        same name, and then its title is another.
        """
        settings = config.get("settings", {})
        try:
            recipe = self.recipe(settings.get("preset", ""), settings.get("variant"))
        except tinynet.CheckpointError:
            return False
        return bool(config["title"] == recipe.title)

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
        variant: str | None,
        saved: tuple[Path, checkpoint.Checkpoint] | None,
        imported: Imported | None,
    ) -> dict:
        """What the recipe says in `about`; of a run that goes on, what its checkpoint says."""
        stated = self.recipe(preset, variant).data.state()
        if preset in PUBLISHED:
            stated["net"] = imported.net if imported else None
            stated["scale"] = imported.about["scale"] if imported else None
        elif self.state:
            stated = {**stated, "net": self.state(preset, variant)}
        if saved is None:
            return stated
        with checkpoint.understood(saved[0]):
            about = saved[1].state["about"]
            return {name: about[name] for name in stated if name in about or name not in LATER}

    def _finish(self, trainer: Trainer, recipe: Recipe) -> None:
        """Test the best checkpoint once more, write the report, say what was reached."""
        folder, model, epochs = trainer.out, trainer.model, trainer.epoch
        best = self.ranks.first(lambda: runs.find_checkpoint(folder))
        model.load_state_dict(self.ranks.first(lambda: checkpoint.load(best).model))
        result = recipe.data.evaluate([model.eval()], trainer.task, trainer.test, full=False)
        if self.ranks.rank:
            return
        recipe.data.save(result, folder)
        report = write_report(folder)
        size = sum(parameter.size for parameter in model.parameters())
        unit = trainer.task.unit
        shown = "curves, kernels and everything" if self.kernels else "curves and everything"
        chosen = f", the best of {epochs} epochs on these {unit}," if epochs > 1 else ""
        whole = epochs == trainer.epochs
        takes, gives = recipe.data.asks
        print(
            f"\nThe {recipe.title} ({size:,} parameters) has been through {epochs} of "
            f"{trainer.epochs} epochs{'' if whole else ' (ended by --max-time)'}. "
            f"Its checkpoint {best}{chosen} "
            f"{recipe.data.reached(result)}. Look at {report} in a browser for {shown} else.\n"
            f"To use it: --predict {folder} {takes}, for {gives}. "
            f"{'To train it for longer' if whole else 'To go on'}: {self._command(folder)}"
            f"{' --epochs N' * whole}"
        )

    def _settings(self, args: argparse.Namespace, imported: Imported | None) -> dict:
        """What was given, and for the rest the recipe or, if a run goes on, what it was started
        with.
        """
        recipe = next(iter(self.recipes.values()))
        names = dict.fromkeys([*SHARED, *recipe.data.settings()])
        asked = {name: getattr(args, name, None) for name in names}  # some have no such option
        given = {name: value for name, value in asked.items() if value is not None}
        if args.resume:
            changeable = CHANGEABLE | recipe.data.changeable
            settings = runs.settings_of(args.out, given, changeable)
            self.recipe(settings["preset"], settings.get("variant"), str(args.out))
            by_hand = given.keys() & recipe.data.changeable  # so the story no longer changes it
            story = [row for row in settings.get("story", ()) if row[1] not in by_hand]
            settings["story"] = story
            return settings
        if args.set:
            raise ValueError("--set changes a run that goes on: it needs --resume")
        if imported:
            if given.keys() & {"variant", "start_from"}:
                raise ValueError("--import: expected no --variant or --start-from; leave them out")
            given |= {
                "preset": imported.preset,
                "picture_size": imported.about["picture_size"],
                "crop": imported.about["image_size"],
            }
        preset = given.get("preset", next(iter(self.recipes)))
        recipe = self.recipe(preset, given.get("variant"))
        if "epochs" in given:
            given.setdefault("milestones", recipe.milestones_of(given["epochs"]))
            given["story"] = recipe.story_of(given["epochs"])
        if given.keys() >= {"lr", "scale_lr"}:
            raise ValueError("--scale-lr is of the recipe's rate: leave it out, or --lr")
        new = {
            **recipe.settings(),
            "preset": preset,
            "device": runs.default_devices(self.devices, self.ranks.beside),
            "data": None,
            "seed": 0,
            "workers": None,
            "limit_batches": None,
            "skip_damaged": 0,
            "variant": None,
            "start_from": None,
            "scale_lr": None,
            **given,
        }
        return scaled(new, recipe)

    def find_devices(self, names: str | None) -> tuple[Device, ...]:
        names = names or runs.default_devices(self.devices, self.ranks.beside)
        return runs.find_devices(runs.devices_of_rank(names, self.ranks.local), self.devices)

    def _share(self, task: Any, model: Module, exchange: str | None = None) -> None:
        """Let the ranks share each batch, if there are several: all with the same net."""
        if self.ranks.size > 1 and task.undivided:
            raise ValueError(f"expected one rank, got {self.ranks.size}: {task.undivided}")
        together.check_alike(self.ranks, lambda: together.of_net(model))
        if exchange and self.ranks.size == 1:
            raise ValueError("--exchange is for several ranks: start with mpiexec, or leave it out")
        factors = exchange == "factors"
        task.steps = steps_of(self.ranks, model.parameters(), factors)

    def _fail(self, line: str) -> int:
        return together.fail(self.ranks, line, _complain)

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


def _complain(line: str) -> None:
    print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr)
