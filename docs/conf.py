"""The site: pages in Markdown, the interface from docstrings. `make docs` builds it."""

import importlib.metadata

project = "Fewshot-SMIS"
author = "The Fewshot-SMIS authors"
project_copyright = author
release = importlib.metadata.version("fewshot-smis")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Fewshot-SMIS {release}"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
