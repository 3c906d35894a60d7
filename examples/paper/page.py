"""docs/paper.md: tables, pictures and sentences, made of the lines of finished runs alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from comparing import Difference, difference, in_words, sentence, size, summary, verdict
from running import Line, Plan
from statements import STATEMENTS, Comparison

from tinynet.training.checkpoint import write_whole
from tinynet.training.plots import draw_differences, draw_many

Lines = Mapping[str, Line]
UNITS = {
    "top1_error": "top-1 error, %",
    "epochs_to_25": "epochs",
    "colour": "colour, points above chance (p of chance)",
}
HEAD = """# The paper, statement by statement

Made by `python examples/paper/claims.py page` from [paper/runs.jsonl](paper/runs.jsonl), a line for each finished run; nothing here
is written by hand. Krizhevsky, Sutskever and Hinton trained on 1.2 million photographs for days. The small scale asks what of their
comparisons can be seen in minutes, with nets of 0.7 million parameters, six epochs and mostly 2,000 pictures: errors are far above the README's. CIFAR-10 is a copy as JPEG.
The machine of two cores had other work all the time, so minutes are upper bounds.

A difference is taken seed by seed: nets of the same seed see the same pictures in the same order. Its interval holds the true mean in
95 of 100 repetitions (Student's t). The rule was committed before the first run: *seen*, if the whole interval lies on the paper's
side of 0; *other way*, if all of it lies on the other side; *not seen*, if it holds 0 and ends below the paper's number; else *too
small to tell*. An average of nets is one net, the same in all pairs: there the interval is about single nets alone. What is compared, with which settings and seeds: [statements.py](../examples/paper/statements.py). Figures
are of the test at the end of training, not of the best epoch.

"""  # noqa: E501


def values(plan: Plan, arm: str, figure: str, lines: Lines) -> dict[int, float]:
    """A figure of an arm by seed, as far as there are lines."""
    found = {}
    for seed in range(plan.seeds):
        line = lines.get(plan.job(arm, seed, lines).command(), {})
        if line.get(figure) is not None:
            found[seed] = float(line[figure])
        elif figure == "epochs_to_25" and line:  # not within its epochs: at least one more
            found[seed] = float(len(line["training_error"]) + 1)
    return found


def compared(
    plan: Plan, row: Comparison, lines: Lines
) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides of a comparison, for the seeds that both have."""
    ours = values(plan, row.arm, row.figure, lines)
    if not row.against:
        return ours, dict.fromkeys(ours, 0.0)
    theirs = values(plan, row.against, row.other or row.figure, lines)
    seeds = sorted(ours.keys() & theirs.keys())
    return {s: ours[s] for s in seeds}, {s: theirs[s] for s in seeds}


def found_of(plan: Plan, row: Comparison, lines: Lines) -> Difference | None:
    """The difference of a comparison; of logarithms, if it is a ratio. None without a pair."""
    ours, theirs = (list(side.values()) for side in compared(plan, row, lines))
    if not ours:
        return None
    if is_ratio(row):
        ours, theirs = ([math.log(value) for value in side] for side in (ours, theirs))
    return difference(ours, theirs)


def is_ratio(row: Comparison) -> bool:
    return row.figure == "epochs_to_25"


def title_of(row: Comparison) -> str:
    """What is compared: "none - whole", "tanh / ReLU"."""
    if not row.against:
        return row.arm
    other = ", ten views" * (row.other == "ten_views")
    return f"{row.arm} {'/' if is_ratio(row) else '-'} {row.against}{other}"


def told(name: str, plan: Plan, lines: Lines) -> Iterator[str]:
    """A statement's tables and sentences; before its first line, that it has none."""
    columns = dict.fromkeys(
        (arm, figure)
        for row in plan.comparisons
        for arm, figure in ((row.arm, row.figure), (row.against, row.other or row.figure))
        if arm
    )
    yield "| | what | mean | standard deviation | by seed |"
    yield "|---|---|---|---|---|"
    for arm, figure in columns:
        found = values(plan, arm, figure, lines)
        unit = UNITS.get(figure, "top-1 error, %, ten views")
        if not found:
            yield f"| {arm} | {unit} | not run yet | | |"
            continue
        mean, deviation = summary(list(found.values()))
        spread = "" if math.isnan(deviation) else f"{deviation:.2f}"
        each = ", ".join(_short(plan, arm, figure, seed, v, lines) for seed, v in found.items())
        yield f"| {arm} | {unit} | {mean:.2f} | {spread} | {each} |"
    yield ""
    yield "| difference | the paper | here (95 % interval) | pairs | |"
    yield "|---|---|---|---|---|"
    sentences = []
    for row in plan.comparisons:
        difference_ = found_of(plan, row, lines)
        title = title_of(row)
        paper = size(row.paper, is_ratio(row))
        if difference_ is None:
            yield f"| {title} | {paper} | not run yet | | |"
            continue
        log = math.log(row.paper) if is_ratio(row) and row.paper else row.paper
        said = verdict(difference_, log)
        here = in_words(difference_, is_ratio(row))
        yield f"| {title} | {paper} | {here} | {difference_.pairs} | {said} |"
        sentences.append(sentence(row.says, difference_, row.paper, is_ratio(row)))
    for each in sentences:
        yield ""
        yield each


def _short(plan: Plan, arm: str, figure: str, seed: int, value: float, lines: Lines) -> str:
    line = lines[plan.job(arm, seed, lines).command()]
    if figure == "colour":
        return f"{value:.2f} ({line['colour_p']:.2f})"
    if figure != "epochs_to_25":
        return f"{value:.2f}"
    reached = line[figure] is not None
    return f"{value:.0f}" if reached else f"not in {value - 1:.0f}"


def write_page(out: Path, lines: Lines) -> Path:
    """The page beside the folder, its pictures in it. Returns its path."""
    text, missing = [HEAD], []
    for scale in ("small", "full"):
        for name, statement in STATEMENTS.items():
            plan = Plan(statement, scale, statement.seeds)
            jobs = [job for _, _, job in plan.jobs(lines)]
            there = [lines[job.command()] for job in jobs if job.command() in lines]
            if len(there) < len(jobs):
                missing.append((name, scale, len(jobs) - len(there), plan))
            if not any(found_of(plan, row, lines) for row in plan.comparisons):
                continue  # nothing to compare yet, though runs of other statements may serve it
            title = name if scale == "small" else f"{name} (full)"
            text.append(f"## {title}: section {statement.section}\n\n{statement.text}\n\n")
            text.append(f"`{command(name, plan)}`\n\n")
            text.append("\n".join(told(name, plan, lines)) + "\n\n")
            if picture := draw(out, name, plan, lines):
                text.append(
                    f"![{name}: each difference with its interval]({out.name}/{picture})\n\n"
                )
            minutes = sum(line.get("seconds", 0.0) for line in there) / 60
            text.append(
                f"{len(there)} runs, {minutes:.0f} minutes of training and testing in all; commits "
                f"{', '.join(sorted({line['commit'] for line in there}))}.\n\n"
            )
    text.append("## Not run yet\n\n")
    text.append(
        "What has no line so far, and the command that does it:\n\n| | scale | runs left | |\n"
    )
    text.append("|---|---|---|---|\n")
    text += [
        f"| {name} | {scale} | {count} | `{command(name, plan)}` |\n"
        for name, scale, count, plan in missing
    ]
    page = out.with_suffix(".md")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(page, "".join(text))
    return page


def command(name: str, plan: Plan) -> str:
    """What does a statement."""
    data = {plan._data(arm) for arm in plan.arms.values()} - {"embedded"}
    more = {"photographs", "MORE-SHARDS"}
    places = [f" --{'more-' * (each in more)}data {each}" for each in sorted(data)]
    scale = " --scale full" if plan.scale == "full" else ""
    return f"python examples/paper/claims.py run {name}{scale}{''.join(places)}"


def draw(out: Path, name: str, plan: Plan, lines: Lines) -> str:
    """The picture of a statement, in `out`; "" if nothing can be compared yet."""
    path = out / f"{name}{'-full' * (plan.scale == 'full')}.png"
    out.mkdir(parents=True, exist_ok=True)
    curves = {}
    if any(map(is_ratio, plan.comparisons)):
        for arm in plan.arms:
            found = [lines.get(plan.job(arm, s, lines).command()) for s in range(plan.seeds)]
            curves[arm] = [line["training_error"] for line in found if line]
        if any(curves.values()):
            draw_many(curves, "epoch", "training error, %", 25.0, path)
            return path.name
        return ""
    rows = []
    for row in plan.comparisons:
        if apart := found_of(plan, row, lines):
            pairs = zip(*(side.values() for side in compared(plan, row, lines)), strict=True)
            rows.append(
                (title_of(row), [a - b for a, b in pairs], (apart.low, apart.high), row.paper)
            )
    if not rows:
        return ""
    unit = UNITS.get(plan.comparisons[0].figure, "").partition(" above")[0]
    draw_differences(rows, f"difference of {unit}", path)
    return path.name
