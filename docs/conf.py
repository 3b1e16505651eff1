"""The configuration of Sphinx."""

from __future__ import annotations

import sys
from pathlib import Path

import trio_tls

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "trio_tls"
copyright = "2026, the trio_tls contributors"  # noqa: A001  Sphinx has chosen the name
version = release = trio_tls.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
    "myst_parser",  # for the changelog
    "benchmark",  # ours, in _ext: the tables of what was measured
    "from_source",  # ours, in _ext: the command's options, the alerts
]
exclude_patterns = ["_build"]
default_role = "py:obj"
# A public name of ours that is not in the reference is an error. Names of Trio and of the standard library cannot be
# looked up without the network, and what is behind the public names has no page.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!trio_tls\.).*"),
    (r"py:.*", r"trio_tls\.(core|from_context|listener|metrics|machine|names|serve|trust|testing\.sweep)\..*"),
]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autoclass_content = "class"
napoleon_attr_annotations = False  # the signature of the class has the types
napoleon_custom_sections = [("Cancelled", "notes_style")]
python_maximum_signature_line_length = 70
python_display_short_literal_types = True

html_theme = "furo"
html_title = f"trio_tls {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_show_sphinx = False
html_copy_source = False

# Only what lies here can be checked on every machine.
linkcheck_ignore = [r"https?://"]
