"""Sphinx with MyST: `make docs` writes HTML to docs/_build."""

import re
from importlib.metadata import version as version_of
from typing import Any

from sphinx.ext.napoleon import GoogleDocstring

project = "cytoforge"
copyright = "2026, the cytoforge developers"
author = "The cytoforge developers"
version = release = version_of("cytoforge")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
default_role = "code"  # docstrings write `code` as Markdown does
exclude_patterns = ["_build"]
html_title = f"cytoforge {release}"


def read_docstring(_app: Any, what: str, name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Read Google's sections (Args, Returns, Raises), and formulas such as |A| or 2 * x as text instead of markup."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)  # code stands at odd places
        parts[::2] = [re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts[::2]]
        lines[number] = "".join(parts)
    if what not in ("attribute", "property"):  # there Google's style takes text before a colon for a type
        lines[:] = GoogleDocstring(lines, what=what, name=name).lines()


def offer_trials(_app: Any, _page: str, source: list[str]) -> None:
    """Turn links to trials, which stand beside their benchmarks and outside of the pages, into downloads."""
    source[0] = re.sub(r"\]\((\.\./benchmarks/[^)#]+)[^)]*\)", r"](path:\1)", source[0])


def setup(app: Any) -> None:
    """Connect the hooks above."""
    app.connect("source-read", offer_trials)
    app.connect("autodoc-process-docstring", read_docstring)
