"""The configuration of Sphinx."""

from __future__ import annotations

import trio_tls

project = "trio_tls"
copyright = "2026, the trio_tls contributors"  # noqa: A001  Sphinx has chosen the name
version = release = trio_tls.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
    "myst_parser",  # for the changelog
]
exclude_patterns = ["_build"]
default_role = "py:obj"
nitpicky = False  # names of Trio and of the standard library cannot be looked up without the network
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autoclass_content = "class"
napoleon_custom_sections = [("Cancelled", "notes_style")]

html_theme = "furo"
html_title = f"trio_tls {release}"
html_show_sphinx = False
html_copy_source = False

# Only what lies here can be checked on every machine.
linkcheck_ignore = [r"https?://"]
