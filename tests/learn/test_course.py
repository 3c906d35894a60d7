"""The course (docs/learn): every output, every number in its prose, every quoted line and every
figure is what tinynet gives today; and each chapter has all of its parts.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import questions
from chapters import CHECK, LEARN, QUOTE, ROOT, run

from tinynet.exercises import EXERCISES

PAGES = sorted(LEARN.glob("*.md"))
CHAPTERS = [page for page in PAGES if re.match(r"\d\d-", page.name)]
TEXTS = [*CHAPTERS, LEARN / "capstone.md"]
LEAST = 12  # checked outputs and claims in a chapter
QUIZZES = {"warm-up": "123", "quiz": "abcdefgh"}  # the pages, how questions are numbered
WIDGETS = {"tape", "columns", "pool", "order", "momentum"}
SECTIONS = [
    "Five candidates for dx all have the right shape; one is right",
    "A network learns with a broken backward",
    "What the gradient checker cannot see",
]
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
# what counts as no number of the prose: names of things, sizes, code, and where links lead
NO_NUMBER = re.compile(
    r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)|<[^>]*>|^\d+\. |\*\*\d+\.\d\*\*|About\s\d+\sminutes"
    r"|\b(19|20)\d\d\b|\b[Cc]hapters?\s\d+(,\s\d+)*(\s(and|to)\s\d+)?|\b(step|section)\s\d+"
    r"|im2col|col2im|\b\d+x\d+\b|\b\d[a-z]\b|\b(conv|fc|float|cpu:)\d+|\b\d+-bit\b",
    re.M,
)


def ids(pages: list[Path]) -> list[str]:
    return [page.stem for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_what_a_page_says_is_so(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")  # for `from alexnet import AlexNet`
    checked, wrong = run(page)
    assert not wrong, "\n\n".join(wrong)
    if page in TEXTS:
        assert checked >= LEAST, f"{checked} checked outputs, expected {LEAST} at least"


def unchecked(text: str) -> list[str]:
    """Paragraphs of prose with a number in them and no check."""
    found = []
    for paragraph in re.split(r"\n\s*\n", FENCE.sub("", text)):
        prose = NO_NUMBER.sub("", CHECK.sub("", paragraph))
        if re.search(r"\d", prose) and not CHECK.search(paragraph) and paragraph[0] not in "#$":
            found.append(paragraph)
    return found


@pytest.mark.parametrize("page", TEXTS, ids=ids(TEXTS))
def test_a_number_in_the_prose_has_a_check(page):
    found = unchecked(page.read_text())
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("page", CHAPTERS, ids=ids(CHAPTERS))
def test_a_chapter_has_all_its_parts(page):
    text, chapter = page.read_text(), int(page.name[:2])
    titles = re.findall(r"^## (.+)$", text, re.M)
    assert re.match(r"# Chapter \d+\. .+\?\n\n", text), "a chapter's title is its one question"
    assert text.startswith(f"# Chapter {chapter}. ")
    assert QUOTE.search(text), "no line of our own code is read"
    assert "](figures/" in text or "](../pictures/" in text
    assert set(re.findall(r"<!-- widget: (.+?) -->", text)) <= WIDGETS
    assert "Questions" in titles
    assert all(f"]({page}.md#chapter-{chapter})" in text for page in QUIZZES)
    assert "The exercise" in titles
    commands = re.findall(r"^python -m tinynet\.exercises (\w+)$", text, re.M)
    assert commands == [e.name for e in EXERCISES.values() if e.chapter == chapter]
    check_derivations(text)


def check_derivations(text: str) -> None:
    """Numbers by hand, and in the end the kernel's own."""
    by_hand = [part for part in re.split(r"^## ", text, flags=re.M) if part.startswith("By hand")]
    assert by_hand
    for part in by_hand:
        assert re.search(r">>> .*# tinynet's own\n([^>`].*\n)+```", part), part.partition("\n")[0]


def test_sections_that_are_known_by_name():
    text = "".join(page.read_text() for page in CHAPTERS)
    for title in SECTIONS:
        assert f"\n## {title}\n" in text


def test_the_index_lists_the_chapters_in_order():
    links = re.findall(r"^\| \[\w+\]\(([\w-]+\.md)\)", (LEARN / "index.md").read_text(), re.M)
    assert links == [page.name for page in TEXTS]


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_nothing_is_passed_over(page):
    """A session, a quotation or a check that is not written as chapters.py says would not run."""
    text = page.read_text()
    fences = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)
    assert {kind for kind, _ in fences} <= {"pycon", "py", "sh"}
    sessions = "".join(code for kind, code in fences if kind == "pycon")
    assert text.count(">>> ") == sessions.count(">>> ")
    quoted = len(QUOTE.findall(text))
    assert page.stem in QUIZZES or quoted == sum(kind == "py" for kind, _ in fences)
    known = len(CHECK.findall(text)) + quoted + len(re.findall("<!-- widget: ", text))
    assert text.count("<!--") == known


@pytest.mark.parametrize("page, numbers", QUIZZES.items(), ids=QUIZZES)
def test_a_quiz_has_at_least_three_questions_a_chapter(page, numbers):
    text = (LEARN / f"{page}.md").read_text()
    chapters = re.split(r"^## Chapter (\d+)$", text, flags=re.M)[1:]
    assert chapters[::2] == [str(chapter) for chapter in range(1, 11)]
    for chapter, part in zip(chapters[::2], chapters[1::2], strict=True):
        named = questions.NAME.findall(part)
        assert len(named) >= 3
        assert named == [f"{chapter}.{n}" for n in numbers[: len(named)]]
        answers = questions.ANSWER.findall(part)
        assert len(answers) == len(named) and all("```pycon" in answer for answer in answers)


@pytest.mark.parametrize("page", QUIZZES)
def test_a_reader_can_be_given_the_questions_without_the_answers(page):
    text = (LEARN / f"{page}.md").read_text()
    given, key = questions.without_answers(text), questions.key(text)
    names = questions.NAME.findall(text)
    assert names == questions.NAME.findall(given) == questions.NAME.findall(key)
    assert "check:" not in given and "details>" not in given and "```py\n" in given


@pytest.mark.parametrize("page", PAGES, ids=ids(PAGES))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", FENCE.sub("", page.read_text())):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        titles = re.findall(r"^#+ (.+)$", target.read_text(), re.M) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, link


# ------------------------------------------------------------------ figures


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("figures", LEARN / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_what_their_program_makes(figures):
    files = {path.stem for path in figures.FOLDER.iterdir()}
    assert files == figures.FIGURES.keys()
    for name, make in figures.FIGURES.items():
        here = (figures.FOLDER / f"{name}.svg").read_text()
        assert here == make(), f"{name}.svg is old: python docs/learn/figures.py"


def test_every_figure_is_shown(figures):
    text = "".join(page.read_text() for page in PAGES)
    assert all(f"](figures/{name}.svg)" in text for name in figures.FIGURES)


# ------------------------------------------------------------------ these tests can fail


@pytest.mark.parametrize(
    "text, told",
    [
        ("```pycon\n>>> 1 + 1\n3\n```\n", "Expected:\n    3\nGot:\n    2"),
        ("```pycon\n>>> 1 / 0\n```\n", "ZeroDivisionError"),
        ("2 <!-- check: 1 + 1 == 3 -->", "not so: 1 + 1 == 3"),
        ("2 <!-- check: nobody == 3 -->", "NameError"),
        ("<!-- from: tinynet/tape.py -->\n```py\nimport heap\n```\n", "has no such lines"),
        (
            "<!-- from: tinynet/tape.py -->\n```py\nimport heapq\n...\nimport functools\n```\n",
            "has no such lines (any more):\nimport functools",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text, told, tmp_path):
    (tmp_path / "page.md").write_text(f"# Title\n\n{text}")
    _, (wrong,) = run(tmp_path / "page.md")
    assert told in wrong and re.search(r"page.md:[34]: ", wrong)


def test_a_number_without_a_check_is_found():
    assert unchecked("It is 4.\n\nIt is `4` in chapter 4.\n\n4 <!-- check: 1 -->") == ["It is 4."]


@pytest.mark.slow
def test_the_exercises_notice_more_faults_than_square_shapes_without_overlap():
    command = [sys.executable, str(Path(__file__).with_name("share.py")), "kernels/max_pool2d.py"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    faults, ours, theirs = map(int, told.splitlines()[-1].split()[-3:])
    assert faults > 8 and ours >= 2 * theirs > 0, told
