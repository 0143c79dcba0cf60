"""Settings of Sphinx: ``make docs`` builds the pages of this folder without a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import generate

from selfcal import __version__

generate.write(list(generate.PAGES))

project = "selfcal"
copyright = "the authors of selfcal, MIT licence"
version = release = __version__
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"selfcal {__version__}"
html_show_sphinx = False
html_copy_source = False
# links that lead out of the documentation to files of the project
myst_url_schemes = ["http", "https", "mailto"]
suppress_warnings: list[str] = []
