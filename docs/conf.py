"""How Sphinx builds the pages of this folder into a site: ``make docs`` writes it to docs/_build."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "vlmagent"
author = "the vlmagent authors"
project_copyright = "2026, the vlmagent authors"
version = release = version_of("vlmagent")

extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "records", "results"]
myst_heading_anchors = 3  # links to headings, as code hosts make them
myst_enable_extensions = ["dollarmath", "amsmath"]
# pages link to files of the repository, which a site does not hold: those links stay as they are
suppress_warnings = ["myst.xref_missing", "misc.highlighting_failure"]

html_theme = "furo"  # light and dark, and a search of its own
html_title = "vlmagent"
html_theme_options = {"sidebar_hide_name": False}
copybutton_prompt_text = "$ "
