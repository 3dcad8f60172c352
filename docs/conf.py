"""Sphinx: ``sphinx-build -W --keep-going docs site`` draws the pictures and builds all pages; nothing is fetched."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

import fastconv

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "fastconv"
version = release = fastconv.__version__
copyright = "the fastconv authors"
html_title = f"fastconv {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["pictures"]
default_role = "py:obj"  # `conv2d` in a docstring is a link
add_module_names = False
smartquotes_action = "De"  # dashes and dots; 'same' is code

autodoc_typehints = "none"  # the docstrings say shapes and dtypes, which types cannot
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # "x, y : int" stays one entry

myst_enable_extensions = ["substitution"]
myst_substitutions = {"version": release}
myst_heading_anchors = 3

html_theme = "furo"
html_theme_options = {"light_css_variables": {"color-brand-primary": "#33658a", "color-brand-content": "#33658a"}}
html_show_copyright = False
html_copy_source = False


MADE_BY_FUNCTIONS = {
    f"fastconv.{name}" for name in ("Plan", "Explanation", "Field", "ReceptiveField", "nn.Module", "nn.Summary")
}


def hide_constructor(app: Sphinx, what: str, name: str, *rest: object) -> tuple[str, str] | None:
    return ("", "") if name in MADE_BY_FUNCTIONS else None


def draw_pictures(app: Sphinx) -> None:
    import pictures

    pictures.draw(HERE / "pictures")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", draw_pictures)
    app.connect("autodoc-process-signature", hide_constructor)
