"""One HTML page that tells a run: made at its end, and on demand from any run's folder.

It reads only what the run wrote down (config.json, metrics.jsonl, evaluation.json, the best
checkpoint), leaves out what is not there yet, and holds everything inside itself.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.errors import CheckpointError, DataError
from tinynet.training import checkpoint
from tinynet.training.checkpoint import write_whole
from tinynet.training.measure import Measure
from tinynet.training.metrics import read_config, read_metrics
from tinynet.training.plots import THEMES, confusion_picture, curves, draw_curves, draw_kernels

REPORT = "report.html"
EVALUATION = "evaluation.json"
LOSS = Measure("loss", digits=4)
PHASES = {
    "loading": "#c9742b",
    "forward": "#0b6bcb",
    "backward": "#6a4fb3",
    "update": "#2f8f5b",
    "testing": "#9aa5b1",
}

# What the settings of a run are called on the page, and what their None means.
SETTINGS = {
    "preset": ("network", ""),
    "device": ("devices", ""),
    "data": ("data", "the program's own"),
    "epochs": ("epochs", ""),
    "batch_size": ("examples a batch", ""),
    "lr": ("learning rate at the start", ""),
    "milestones": ("rate divided by ten after epochs", "by the schedule of the recipe"),
    "story": ("what changes after epochs", "nothing"),
    "seed": ("seed of weights, order, crops and dropout", ""),
    "workers": ("processes that load", "one a core, or none if the data lie in memory"),
    "tf32": ("matrix products in TF32", "no"),
    "limit_batches": ("batches an epoch", "all"),
    "limit_pictures": ("examples used, spread over all", "all"),
    "variant": ("variant of the network", "none"),
    "start_from": ("first weights from", "the recipe's start"),
    "scale_lr": ("rates scaled for the size of the batch", "no"),
    "val_share": ("share of the pictures split off to test on", "none: they lie apart"),
    "skip_damaged": ("unreadable examples left out, at most", ""),
    "picture_size": ("side of whole pictures", "as they are"),
    "crop": ("side of what the net sees", "as the recipe has it"),
    "colour": ("sigma of the colour noise", ""),
}
MANY = 12  # rows; a longer table scrolls

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2730; --faint: #5b6770;
        --line: #e3e7eb; --wrong: #b3261e; --shade: #0003 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14191e; --ink: #d5dce3; --faint: #94a1ad; --line: #2c353d; --wrong: #ff8a80;
          --shade: #0008 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p.small, figcaption, th { color: var(--faint); font-size: .85rem; font-weight: 400 }
p.small { overflow-wrap: anywhere }
img { max-width: 100%; height: auto }
.curves { display: flex; flex-wrap: wrap; gap: .5rem 1rem }
.curves picture { flex: 1 1 20rem; max-width: 29rem } .curves img { width: 100% }
.framed { background: #fff; padding: 2px; image-rendering: pixelated }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .15rem .9rem .15rem 0; text-align: right; vertical-align: top }
th { position: sticky; top: 0; background: var(--paper); vertical-align: bottom }
th:first-child, td:first-child { text-align: left } td:first-child { overflow-wrap: anywhere }
table.words td { text-align: left; overflow-wrap: anywhere; border-top: 1px solid var(--line) }
table.words td:first-child { color: var(--faint); min-width: 8rem; overflow-wrap: normal }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2.2rem; margin: 1.2rem 0 }
.figures div { flex: 0 1 10rem }
.figures b { display: block; font-size: 1.7rem; line-height: 1.2 }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr));
           gap: .8rem }
.samples figure { margin: 0; font-size: .8rem; line-height: 1.3; overflow-wrap: anywhere }
.samples img { width: 7rem; height: 7rem; object-fit: contain; image-rendering: pixelated }
.bar { display: flex; height: 1.6rem; border-radius: 4px; overflow: hidden }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem }
.key span { white-space: nowrap }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .3em }
.scroll { overflow: auto; max-width: 100% } .scroll.long { max-height: 22rem;
  border-bottom: 1px solid var(--line); box-shadow: inset 0 -1.2rem 1rem -1.2rem var(--shade) }
.wide img { max-width: none } .wrong { color: var(--wrong) }
pre { margin: 0; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere }
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder and return its path; beside it `curves.png` and
    `kernels.png`, of the best checkpoint there is.

    Raises DataError if the folder is not one of a run, or holds a damaged file.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config is None:
        raise DataError(f"{folder} is not the folder of a run: it has no config.json")
    lines = read_metrics(folder)
    measures = config["measures"]
    draw_curves(lines, measures, folder / "curves.png")
    evaluation = _evaluation(folder)
    train = [line for line in lines if line["kind"] == "train"]
    tests = [line for line in lines if line["kind"] == "test"]
    data = config["settings"].get("data") or (config["data"] and config["data"]["train"][1])
    title = config["title"] + (f" on {Path(data).name}" if data else "")
    body = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="small">{escape(line)}</p>' for line in _about(folder, config, tests)),
        _figures(train, tests, evaluation, config),
        _curves(lines, measures),
        _epochs(tests, measures),
        _kernels(folder, config["kernels"]),
        _samples(evaluation),
        _texts(folder, evaluation),
        _classes(evaluation),
        _confusion(folder, evaluation),
        _times(tests, train),
        _health(tests),
        _configuration(config),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )
    write_whole(folder / REPORT, page)
    return folder / REPORT


def _evaluation(folder: Path) -> dict:
    """What the best test so far found, or nothing yet."""
    path = folder / EVALUATION
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{path} is damaged; delete it, and the report goes without it") from None


def _about(folder: Path, config: dict, tests: list[dict]) -> Iterator[str]:
    """Where the run lies, what it was trained on, and how far it came."""
    yield f"{folder}, started {config['started']}"
    if config["data"]:
        (count, source), (other, test) = config["data"]["train"], config["data"]["test"]
        yield f"{count:,} {config['unit']} to train on ({source}), {other:,} to test on ({test})"
    epochs = config["settings"].get("epochs")
    if epochs and (done := tests[-1]["epoch"] if tests else 0) < epochs:
        yield f"not at its end: {done:g} of {epochs} epochs are done"


def _figures(train: list[dict], tests: list[dict], evaluation: dict, config: dict) -> str:
    """The few numbers that a reader looks for first."""
    figures, measures = [], config["measures"]
    if tests:
        best = min(tests, key=lambda line: line[config["best_by"]])
        names = [name for name in measures if name in best] or ["loss"]
        when = f"best of {len(tests)} epochs on these {config['unit']}"
        for name in names:
            measure = measures.get(name, LOSS)
            of = f", {when}" if len(tests) > 1 else ""
            figures.append(
                (measure.value(best[name]), f"{measure.title}, epoch {best['epoch']:g}{of}")
            )
    for views, errors in evaluation.get("views", {}).items():
        if views != "1":
            figures.append((f"{errors['top1_error']:.2f} %", f"top-1 error, {views} views"))
    if train:
        rate = sorted(line["images_per_second"] for line in train)[len(train) // 2]
        figures.append((f"{rate:,.0f}", f"{config['unit']}/s in training (median)"))
    if tests:
        figures.append((_duration(sum(tests[-1]["seconds"].values())), "time, tests included"))
    if damaged := max((line.get("damaged", 0) for line in (*train, *tests)), default=0):
        figures.append((f"{damaged:,}", f"{config['unit']} left out: they cannot be read"))
    cells = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for value, name in figures)
    return f'<div class="figures">{cells}</div>'


def _curves(lines: list[dict], measures: dict[str, Measure]) -> str:
    """Loss and measures over the epochs."""
    if not lines:
        return ""
    panels = zip(*(curves(lines, measures, theme) for theme in THEMES), strict=True)
    pictures = "".join(_image(light, "a curve over the epochs", dark) for light, dark in panels)
    return _section("Curves", f'<div class="curves">{pictures}</div>')


def _epochs(tests: list[dict], measures: dict[str, Measure]) -> str:
    """What was measured after each epoch."""
    shown = {name: m for name, m in measures.items() if any(name in line for line in tests)}
    rows = [
        (
            f"{line['epoch']:g}",
            f"{line['loss']:.4f}",
            *(f"{line[name]:.{m.digits}f}" if name in line else "" for name, m in shown.items()),
            f"{line['lr']:.2g}",
        )
        for line in tests
    ]
    titles = (escape(m.title + f", {m.unit}" * bool(m.unit)) for m in shown.values())
    head = ("epoch", "test loss", *titles, "learning rate")
    return _section("After each epoch", _table(head, rows)) if rows else ""


def _kernels(folder: Path, names: list[str]) -> str:
    """The first layer's weights in the best checkpoint, or before the first test in the newest."""
    path, caption = folder / "kernels.png", "Grey is zero; white and black are the largest weight."
    newest = [folder / checkpoint.BEST, *checkpoint.all_in(folder)]
    if names and (found := next((each for each in newest if each.exists()), None)):
        caption += f" From {found.name}."
        try:
            model = checkpoint.load(found).model
            draw_kernels([model[name] for name in names], path)
        except (CheckpointError, KeyError):
            return _section("The first layer's kernels", f"<p>{escape(found.name)} is damaged.</p>")
    if not path.exists():  # a run before the names of its kernels were kept has its own picture
        return ""
    picture = _image(path.read_bytes(), "kernels", kind="framed")
    return _section(
        "The first layer's kernels", picture + f'<p class="small">{escape(caption)}</p>'
    )


def _samples(evaluation: dict) -> str:
    """Some test pictures, wrong ones first: what the net said and how sure it was."""
    parts = []
    for key, title in (("wrong", "Taken for something else"), ("right", "Recognised")):
        figures = [
            f'<figure><img src="{sample["picture"]}" alt="">'
            f'<span class="{key}">{escape(sample["said"])}</span> {sample["probability"]:.0%}'
            + (f"<br>was {escape(sample['was'])}" if key == "wrong" else "")
            + "</figure>"
            for sample in evaluation.get("samples", {}).get(key, [])
        ]
        if figures:
            parts.append(f'<h2>{title}</h2><div class="samples">{"".join(figures)}</div>')
    return "".join(parts)


def _texts(folder: Path, evaluation: dict) -> str:
    """What a language model says, and pictures of how it works."""
    parts = [
        _section(title, f"<pre>{escape(text)}</pre>") for title, text in evaluation.get("texts", [])
    ]
    for title, name in evaluation.get("pictures", []):
        if (folder / name).exists():
            parts.append(_section(title, _image((folder / name).read_bytes(), title)))
    return "".join(parts)


def _classes(evaluation: dict) -> str:
    """Error by class, the hardest first."""
    errors = evaluation.get("error_by_class", {})
    rows = [
        (escape(name), f"{error:.1f}")
        for name, error in sorted(errors.items(), key=lambda item: -item[1])
    ]
    return _section("Error by class", _table(("class", "top-1 error, %"), rows)) if rows else ""


def _times(tests: list[dict], train: list[dict]) -> str:
    """Where the time went, as one bar."""
    if not tests:
        return ""
    seconds = tests[-1]["seconds"]
    whole = sum(seconds.values()) or 1.0
    bar = "".join(
        f'<div style="width:{100 * seconds[name] / whole:.2f}%;background:{colour}"></div>'
        for name, colour in PHASES.items()
    )
    key = "".join(
        f'<span><i style="background:{colour}"></i>{name} {100 * seconds[name] / whole:.1f} % '
        f"({_duration(seconds[name])})</span>"
        for name, colour in PHASES.items()
    )
    return _section(
        "Where the time went", f'<div class="bar">{bar}</div><p class="small key">{key}</p>'
    )


def _health(tests: list[dict]) -> str:
    """Mean |w| and mean |step| of every parameter at the last test."""
    if not tests:
        return ""
    rows = [
        (
            escape(name),
            f"{weight:.2e}",
            f"{step:.2e}",
            f"{step / weight:.1e}" if weight else "",
        )
        for name, (weight, step) in tests[-1]["health"].items()
    ]
    head = ("parameters", "mean |w|", "mean |step|", "step / w")
    return _section("Health at the last test", _table(head, rows))


def _confusion(folder: Path, evaluation: dict) -> str:
    """What was taken for what."""
    path, dark = folder / "confusion.png", None
    if "classes" in evaluation:
        table, classes = np.array(evaluation["confusion"]), evaluation["classes"]
        light, dark = (confusion_picture(table, classes, theme) for theme in THEMES)
    elif path.exists():  # of a run before the classes' names were kept
        light = path.read_bytes()
    else:
        return ""
    return _section(
        "Confusion",
        f'<div class="scroll wide" tabindex="0">{_image(light, "confusion", dark)}</div>'
        '<p class="small">Each row in % of its class\'s pictures. It scrolls where it is wider '
        "than the page.</p>",
    )


def _configuration(config: dict) -> str:
    """How the run was started, with what."""
    settings = [_setting(name, value) for name, value in config["settings"].items()]
    machine = [*config["versions"].items(), ("machine", config["machine"])]
    return (
        _section("Commands", "".join(f"<pre>{escape(each)}</pre>" for each in config["commands"]))
        + _section("Configuration", _words(settings))
        + _section("Software and machine", _words(machine))
    )


def _setting(name: str, value: Any) -> tuple[str, str]:
    """A setting in words."""
    title, none = SETTINGS.get(name, (name.replace("_", " "), "none"))
    if value is None:
        return title, none
    if isinstance(value, bool):
        return title, "yes" if value else "no"
    if not isinstance(value, list):
        return title, str(value)
    rows = (each if isinstance(each, list) else [each] for each in value)
    return title, ", ".join(" ".join(map(str, row)) for row in rows) or none


def _words(pairs: list[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in pairs)
    return f'<table class="words">{rows}</table>'


def _image(png: bytes, text: str, dark: bytes | None = None, kind: str = "") -> str:
    """A picture inside the page; in the dark, another one."""

    def uri(data: bytes) -> str:
        return "data:image/png;base64," + base64.b64encode(data).decode()

    image = f'<img class="{kind}" alt="{escape(text)}" src="{uri(png)}">'
    if dark is None:
        return image
    other = f'<source media="(prefers-color-scheme: dark)" srcset="{uri(dark)}">'
    return f"<picture>{other}{image}</picture>"


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table that scrolls, and says so, when it is long. Cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    long = len(rows) > MANY
    hint = f'<p class="small">{len(rows):,} rows: scroll to see them all.</p>' if long else ""
    kind = "scroll long" if long else "scroll"
    return f'<div class="{kind}" tabindex="0"><table><tr>{top}</tr>{body}</table></div>{hint}'


def _duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 2 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
