"""Sphinx configuration. `make docs` builds with every reference checked and every warning an error."""

import importlib.metadata

project = "Polydatum"
author = "The Polydatum authors"
copyright = f"2026, {author}"
release = importlib.metadata.version("polydatum")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False

# References to the public names of polydatum must resolve; the names of others, and those inside modules, have no page.
nitpick_ignore_regex = [("py:.*", r"(?!polydatum\.\w+$).*")]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"Polydatum {release}"
