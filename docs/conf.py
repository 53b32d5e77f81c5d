"""Sphinx configuration of ``make docs``. Nothing in the pages is loaded from the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "extensions")]

import notebook_pages

from simulator.planner.runs import stamp

notebook_pages.copy(ROOT / "notebooks", HERE / "notebooks")

project = "servelab"
author = "servelab contributors"
copyright = "servelab contributors, Apache-2.0"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "made_pages"]
exclude_patterns = ["extensions", "static", "notebooks/.ipynb_checkpoints"]

suppress_warnings = ["mystnb.unknown_mime_type"]  # Vega-Lite beside the picture of each chart
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries; no inventory is fetched

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "out" / "docs-cache" / stamp())  # outputs of other code are not shown
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # else require.js comes from a CDN
nb_mime_priority_overrides = [("html", "image/svg+xml", 1), ("html", "text/markdown", 2)]

default_role = "py:obj"  # `name` in docstrings: a link where the reference has it, else code
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "servelab"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
