"""The site: its parts, and the whole of it built without a warning and read back."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, DocTestParser, OutputChecker
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

import pytest

import tinynet
from tinynet.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))
pytest.importorskip("sphinx")
from making import mathml, notebooks, reference, sources  # noqa: E402

CHAPTERS = [page for page in sorted((DOCS / "learn").glob("*.md")) if notebooks.is_chapter(page)]
NAMES = [page.stem for page in CHAPTERS]


def test_a_formula_is_mathml_and_a_word_that_is_none_is_an_error():
    tree = ElementTree.fromstring(mathml.mathml(r"\frac{dL}{dq} = \sum_i p_i", block=True))
    assert [e.tag.rpartition("}")[2] for e in tree.iter()].count("mfrac") == 1
    assert tree.attrib["display"] == "block"
    assert "display" not in ElementTree.fromstring(mathml.mathml("a", block=False)).attrib
    with pytest.raises(mathml.MathError):
        mathml.mathml(r"\fraction{1}{2}", block=False)


def test_a_docstring_becomes_text_lists_and_code():
    lines = ["y = x * w_ |b|", "", "Uses `x*y`:", "    z = *a", "- one", "  goes on", "end"]
    made = "\n".join(reference.restructured(lines))
    assert made == (
        "y = x \\* w\\_ \\|b\\|\n\nUses ``x*y``:\n\n::\n\n        z = *a\n\n- one\n  goes on\nend\n"
    )


def test_every_line_of_a_file_has_its_place():
    text = (ROOT / "tinynet/tape.py").read_text()
    html = sources.listing("tinynet/tape.py", text)
    ids = re.findall(r'<span id="L(\d+)">', html)
    assert ids == [str(number) for number in range(1, text.count("\n") + 1)]
    assert re.findall(r'href="#L(\d+)"', html) == ids
    assert "<script" not in sources.listing("x.txt", "<script>")


def test_an_operation_is_found_where_a_user_calls_it():
    for row in OPERATIONS.values():
        value = tinynet
        for name in reference.place(row).split(".")[1:]:
            value = getattr(value, name)
    assert reference.place(OPERATIONS["conv2d"]) == "tinynet.functional.conv2d"


def test_each_cell_of_the_comparison_is_a_link_to_a_line():
    rows = re.findall(r"^\| ([^|].*) \|$", (DOCS / "learn" / "compare.md").read_text(), re.M)
    elsewhere = r"https://github\.com/[\w./-]+/blob/[0-9a-f]{40}/[\w./-]+(\?plain=1)?#L\d+"
    here = r"[\w./-]+\.md#[\w-]+"  # tests/learn follows these
    assert len(rows) > 15
    for row in rows[1:]:
        _, ours, *theirs = row.split(" | ")
        assert re.fullmatch(rf"\[[^]]+\]\({here}\)", ours), row
        assert len(theirs) == 7
        for cell in theirs:
            link = rf"\[[^]]+\]\({elsewhere}\)"
            assert cell == "\u2013" or re.fullmatch(rf"{link}(, {link})*", cell), cell


# ------------------------------------------------------------------ notebooks


@pytest.mark.parametrize("page", CHAPTERS, ids=NAMES)
def test_a_notebook_says_what_its_chapter_says(page):
    made, text = notebooks.notebook(page), page.read_text()
    kinds = [cell["cell_type"] for cell in made["cells"]]
    assert kinds[0] == "markdown" and kinds.count("code") >= 5
    sessions = "".join(notebooks.SESSION.findall(text))
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    lines = [line[4:] for line in sessions.splitlines() if line[:4] in (">>> ", "... ")]
    written = "\n".join(cell["source"] for cell in code)
    written = re.sub(r"^( +)display\((.*)\)$", r"\1\2", written, flags=re.M)  # inside `with`
    assert written.split() == "\n".join(lines).split()
    wants = [e.want for e in DocTestParser().get_examples(sessions) if e.want]
    assert [o["text"] for cell in code for o in cell["outputs"]] == wants
    for cell in made["cells"]:
        if cell["cell_type"] == "markdown":
            prose = re.sub(r"`[^`]*`", "", cell["source"])
            assert "<!--" not in prose
            assert not re.search(r"\]\((?!https?:|attachment:)", prose)
            named = re.findall(r"\(attachment:([\w.-]+)\)", cell["source"])
            assert named == list(cell.get("attachments", {}))
            for picture in cell.get("attachments", {}).values():
                ElementTree.fromstring(base64.b64decode(picture["image/svg+xml"]))


def test_a_number_without_its_check_begins_no_list():
    text = "off by\n1 <!-- check: 1 == 1 -->. Then\n2 more <!-- check: True -->,\n3 <!-- x --> and."
    assert notebooks.without_comments(text) == "off by\n1\\. Then\n2 more,\n3 and."


@pytest.mark.slow
@pytest.mark.parametrize("page", CHAPTERS, ids=NAMES)
def test_a_notebook_runs_and_prints_what_its_chapter_prints(page):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    made = nbformat.from_dict(notebooks.notebook(page))
    nbformat.validate(made)
    wanted = ["".join(o.text for o in c.get("outputs", ())) for c in made.cells]
    nbclient.NotebookClient(made, timeout=300, resources={"metadata": {"path": ROOT}}).execute()
    ran = 0
    for cell, want in zip(made.cells, wanted, strict=True):
        if cell.cell_type == "code":
            got = "".join(map(printed, cell.outputs))
            if want.startswith("Traceback"):
                want = re.sub(r"^(\w+\.)+(?=\w+: )", "", want, flags=re.M)  # a kernel has no module
            same = OutputChecker().check_output(want, got, ELLIPSIS)
            assert same, f"{cell.source}\n--- expected\n{want}--- got\n{got}"
            ran += 1
    assert ran >= 5


def printed(output: dict) -> str:
    """What a session shows of an output; of an error its last line, after the same words."""
    if output["output_type"] == "stream":
        return output["text"]
    if output["output_type"] == "error":
        return "Traceback (most recent call last):\n{ename}: {evalue}\n".format(**output)
    return output["data"]["text/plain"] + "\n"


# ------------------------------------------------------------------ the whole site


class Page(HTMLParser):
    """What a page loads, where it links, and what can be linked in it."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("search", "next", "prev", "index", "canonical"):
            self.links.append(given["href"])
        else:
            self.loads += [given[name] for name in ("src", "href") if given.get(name)]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-EWq", "--keep-going", str(DOCS), str(out)]
    run = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return out


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {file: Page(file.read_text()) for file in site.rglob("*.html")}


@pytest.mark.slow
def test_a_page_loads_nothing_from_elsewhere(site, pages):
    assert len(pages) > 200
    for file, page in pages.items():
        for load in page.loads:
            assert not re.match(r"\w+:|//", load) or load.startswith("data:"), (file, load)
            path = unquote(urldefrag(load).url.partition("?")[0])
            assert load.startswith(("data:", "#")) or (file.parent / path).is_file(), (file, load)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", style.read_text()), style


@pytest.mark.slow
def test_every_link_inside_the_site_leads_somewhere(site, pages):
    missing = set(broken(pages))
    assert not missing


def broken(pages: dict[Path, Page]) -> Iterator[tuple[str, str]]:
    for file, page in pages.items():
        for link in page.links:
            path, anchor = urldefrag(link)
            if re.match(r"\w+:", path):
                continue
            target = (file.parent / unquote(path)).resolve() if path else file
            if target.suffix == ".html" and target in pages:
                if anchor and unquote(anchor) not in pages[target].ids:
                    yield str(file), link
            elif not target.exists():
                yield str(file), link


@pytest.mark.slow
def test_everything_public_is_in_the_reference(site, pages):
    documented = set().union(*(page.ids for page in pages.values()))
    for module in (tinynet, tinynet.functional, tinynet.nn, tinynet.optim, tinynet.data):
        for name in reference.public(module):
            assert f"{module.__name__}.{name}" in documented
    table = (site / "reference" / "index.html").read_text()
    for row in OPERATIONS.values():
        assert re.search(rf'href="[^"]*#{re.escape(reference.place(row))}"', table), row.name


@pytest.mark.slow
def test_widgets_formulas_and_notebooks_are_on_their_pages(site):
    for page in CHAPTERS:
        html, text = (site / "learn" / f"{page.stem}.html").read_text(), page.read_text()
        asked = re.findall(r"<!-- widget: (\w+) -->", text)
        tapes = asked.count("tape")
        assert html.count('<figure class="tinynet-drawing"') == tapes
        assert html.count('<figure class="tinynet-widget"') == len(asked) - tapes
        assert html.count("<math") == len(re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", text, re.S))
        assert "<!-- check" not in html
        pictures = re.findall(r"^!\[", text, re.M)
        beside = re.findall(r"<!-- widget: \w+ -->\s+!\[", text)  # the widget stands for these
        assert html.count('<div class="tinynet-figure">') == len(pictures) - len(beside)
        made = json.loads((site / "learn" / f"{page.stem}.ipynb").read_text())
        assert made == json.loads(json.dumps(notebooks.notebook(page)))
