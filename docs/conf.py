"""Sphinx with MyST: `make docs` writes HTML to docs/_build."""

from importlib.metadata import version as version_of

project = "cytoforge"
copyright = "2026, the cytoforge developers"
author = "The cytoforge developers"
version = release = version_of("cytoforge")

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_title = f"cytoforge {release}"
