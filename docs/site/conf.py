"""How Sphinx makes pages of the Markdown files. scripts/docs.sh runs it, with the repository as the source folder."""

import importlib
import sys
from pathlib import Path

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.ext.autodoc.mock import MockFinder
from sphinx.transforms import SphinxTransform
from sphinx.util.osutil import relative_uri

project = "aztorch"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md", "docs/site/python.rst", "cpp-examples/**.md"]
exclude_patterns = ["target", ".*"]
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
# Browsers do not let a page from disk read the other pages for a summary.
html_show_search_summary = False
html_static_path = ["pages.css"]
html_css_files = ["pages.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1779c4", "color-brand-content": "#1779c4"},
    "dark_css_variables": {"color-brand-primary": "#1982d2", "color-brand-content": "#1982d2"},
}
myst_heading_anchors = 4

# The Python package is imported without its library, and without torch, whose names stand for anything here.
sys.meta_path.insert(0, MockFinder(["aztorch._native", "lightning", "pytorch_lightning", "torch"]))
importlib.import_module("torch").__version__ = "2.9"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Names of Python's and torch's own: the site has no links to them.
nitpick_ignore_regex = [("py:.*", r"(?!aztorch\b).*")]

# The pages as the navigation lists them. Patterns add the pages that are not named.
NAVIGATION = """

```{toctree}
:hidden:
:glob:
:caption: Using it

docs/python
docs/python-checkpoints
docs/python-migration
docs/cpp
docs/datasets
docs/c-api
docs/credentials
docs/behaviour
docs/*
cpp-examples/aks/README
```

```{toctree}
:hidden:
:glob:
:caption: The project

CHANGELOG
*
```

```{toctree}
:hidden:
:glob:
:caption: Internals

docs/internals/architecture
docs/internals/*
```
"""
# What Doxygen and rustdoc write into the site.
REFERENCE = {
    "Overview": "reference/index.html",
    "aztorch.h": "reference/aztorch_8h.html",
    "C by subject": "reference/modules.html",
    "C++ classes": "reference/annotated.html",
    "C++ functions": "reference/namespaceaztorch.html",
    "Python": "docs/site/python.html",
    "Rust": "crate/aztorch/index.html",
}
DESCRIBED = {"include/aztorch.h": REFERENCE["aztorch.h"], "src/lib.rs": REFERENCE["Rust"]}

shown_files = set()


def page_of_file(path):
    """Where the site shows a file of the repository that is not one of its pages."""
    if path in DESCRIBED:
        return DESCRIBED[path]
    shown_files.add(path)
    return f"files/{path}.html"


class FileLinks(SphinxTransform):
    """Makes links to files lead to pages of the site. Sphinx would copy the files, and browsers would save them."""

    default_priority = 5

    def apply(self):
        for link in list(self.document.findall(addnodes.download_reference)):
            path, _ = self.env.relfn2path(link["reftarget"], self.env.docname)
            here = self.app.builder.get_target_uri(self.env.docname)
            uri = relative_uri(here, page_of_file(path))
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def file_pages(app):
    """A page for each file that a link leads to."""
    for path in sorted(shown_files):
        text = Path(app.srcdir, path).read_text(encoding="utf-8")
        try:
            language = get_lexer_for_filename(path).aliases[0]
        except ClassNotFound:
            language = "text"
        code = app.builder.highlighter.highlight_block(text, language)
        yield f"files/{path}", {"title": path, "body": f"<h1>{path}</h1>\n{code}"}, "page.html"


def add_navigation(app, docname, source):
    """Adds the list of pages to the start page, so that its Markdown file has nothing that is for Sphinx only."""
    if docname == root_doc:
        source[0] += NAVIGATION


def add_reference(app, pagename, templatename, context, doctree):
    """Adds the pages of the other tools to the navigation."""
    here = app.builder.get_target_uri(pagename)
    links = "".join(
        f'<li class="toctree-l1"><a class="reference internal" href="{relative_uri(here, page)}">{title}</a></li>'
        for title, page in REFERENCE.items()
    )
    caption = '<p class="caption"><span class="caption-text">Reference</span></p>'
    context["furo_navigation_tree"] += f"{caption}<ul>{links}</ul>"


def setup(app):
    app.add_transform(FileLinks)
    app.connect("source-read", add_navigation)
    app.connect("html-collect-pages", file_pages)
    app.connect("html-page-context", add_reference, priority=900)
