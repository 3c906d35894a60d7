"""One HTML page that tells a run: made at its end, and on demand from any run's folder.

It reads only what the run wrote down (config.json, metrics.jsonl, evaluation.json and the
pictures), leaves out what is not there yet, and holds everything inside itself.
"""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

from tinynet.errors import DataError
from tinynet.training.checkpoint import write_whole
from tinynet.training.measure import Measure
from tinynet.training.metrics import read_config, read_metrics
from tinynet.training.plots import draw_curves

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

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2730; background: #fff;
       max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
p.small, figcaption, th { color: #5b6770; font-size: .85rem; font-weight: 400 }
img.wide { max-width: 100%; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .15rem .9rem .15rem 0; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left }
table.settings td { text-align: left; overflow-wrap: anywhere }
.figures { display: flex; flex-wrap: wrap; gap: 2.2rem; margin: 1.2rem 0 }
.figures b { display: block; font-size: 1.7rem; font-weight: 600 }
.samples { display: flex; flex-wrap: wrap; gap: .8rem }
.samples figure { margin: 0; width: 7rem; font-size: .8rem; line-height: 1.3 }
.samples img { width: 7rem; height: 7rem; object-fit: contain; image-rendering: pixelated }
.bar { display: flex; height: 1.6rem; border-radius: 4px; overflow: hidden }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .3em }
.key span { margin-right: 1.4rem } .scroll { max-height: 24rem; overflow: auto }
.wrong { color: #b3261e }
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder and return its path.

    Raises DataError if the folder is not one of a run.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config is None:
        raise DataError(f"{folder} is not the folder of a run: it has no config.json")
    lines = read_metrics(folder)
    measures = config["measures"]
    draw_curves(lines, measures, folder / "curves.png")
    evaluation = {}
    if (folder / EVALUATION).exists():
        evaluation = json.loads((folder / EVALUATION).read_text(encoding="utf-8"))
    train = [line for line in lines if line["kind"] == "train"]
    tests = [line for line in lines if line["kind"] == "test"]
    settings = config["settings"]
    title = f"{config['title']} on {settings.get('data') or 'embedded data'}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="small">{escape(str(folder))}, started {escape(config["started"])}</p>',
        _figures(train, tests, evaluation, config),
        _picture(folder / "curves.png", "Curves", "Loss and measures over the epochs."),
        _epochs(tests, measures),
        _picture(
            folder / "kernels.png",
            "The first layer's kernels",
            "Grey is zero; white and black are the largest weight.",
        ),
        _samples(evaluation),
        _classes(evaluation),
        _picture(folder / "confusion.png", "Confusion", "Each row in % of its class's pictures."),
        _times(tests, train),
        _health(tests),
        _configuration(config),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>\n" + "\n".join(body) + "\n</html>\n"
    )
    write_whole(folder / REPORT, page)
    return folder / REPORT


def _figures(train: list[dict], tests: list[dict], evaluation: dict, config: dict) -> str:
    """The handful of numbers one looks for first."""
    figures, measures = [], config["measures"]
    if tests:
        best = min(tests, key=lambda line: line[config["best_by"]])
        names = [name for name in measures if name in best] or ["loss"]
        for name in names:
            measure = measures.get(name, LOSS)
            figures.append((measure.value(best[name]), f"{measure.title}, epoch {best['epoch']:g}"))
    for views, errors in evaluation.get("views", {}).items():
        if views != "1":
            figures.append((f"{errors['top1_error']:.2f} %", f"top-1 error, {views} views"))
    if train:
        rate = sorted(line["images_per_second"] for line in train)[len(train) // 2]
        figures.append((f"{rate:,.0f}", f"{config['unit']}/s in training (median)"))
    if tests:
        figures.append((_duration(sum(tests[-1]["seconds"].values())), "time, tests included"))
    cells = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for value, name in figures)
    return f'<div class="figures">{cells}</div>'


def _epochs(tests: list[dict], measures: dict[str, Measure]) -> str:
    """What was measured after each epoch."""
    shown = {name: m for name, m in measures.items() if any(name in line for line in tests)}
    rows = [
        (
            f"{line['epoch']:g}",
            f"{line['loss']:.4f}",
            *(f"{line[name]:.{m.digits}f}" for name, m in shown.items()),
            f"{line['lr']:.2g}",
        )
        for line in tests
    ]
    titles = (escape(m.title + f", {m.unit}" * bool(m.unit)) for m in shown.values())
    head = ("epoch", "test loss", *titles, "learning rate")
    return _section("After each epoch", _table(head, rows)) if rows else ""


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


def _configuration(config: dict) -> str:
    """How the run was started, with what."""
    rows = [(f"<code>{escape(command)}</code>",) for command in config["commands"]]
    settings = {**config["settings"], **config["versions"], "machine": config["machine"]}
    pairs = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>"
        for name, value in settings.items()
    )
    return _section(
        "Configuration", _table(("commands",), rows) + f'<table class="settings">{pairs}</table>'
    )


def _picture(path: Path, title: str, caption: str) -> str:
    """A picture of the folder, inlined."""
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return _section(
        title,
        f'<img class="wide" alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f'<p class="small">{escape(caption)}</p>',
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table that scrolls when it is long. Cells are HTML already."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 5 h 2 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
