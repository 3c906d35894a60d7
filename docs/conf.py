"""The site: `pip install ".[docs]"`, then `sphinx-build -EW docs docs/_build`, without a network.

Pages are the Markdown files of this folder. What is made while the site is built, and how, is in
making/: formulas as MathML, pages of source, the reference from the docstrings, the widgets, a
notebook of each chapter.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]  # this checkout's tinynet, and making/

import tinynet  # noqa: E402

project = "tinynet"
version = release = tinynet.__version__
html_title = "tinynet"
exclude_patterns = ["_build"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "making.mathml",
    "making.sources",
    "making.reference",
    "making.chapters",
]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_url_schemes = ["http", "https", "mailto", "repository"]  # the last: making/sources.py
myst_heading_anchors = 4  # links to headings, as page.md#a-heading
html_math_renderer = "mathml"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
autodoc_typehints = "none"  # the signature shows defaults; types stand in the source
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # an override that says nothing new is left out

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["widgets.css"]
html_js_files = [("widgets.js", {"defer": "defer"})]
html_theme_options = {"top_of_page_buttons": []}
html_show_sphinx = html_show_copyright = False
smartquotes = False  # code is quoted as it is
html_copy_source = False
html_show_search_summary = False  # it is fetched from each page, which no browser does from a disk
