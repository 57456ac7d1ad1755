"""Settings of the documentation site, which ``nox -s docs`` builds from the pages beside it.

The pages are plain Markdown, so that they also read well where they are stored. What a site needs
beyond that is added here while they are read: the navigation, from the lists of index.md; the
docstrings of the names in api.md; links to the committed reports, which are copied to the site.
"""

from __future__ import annotations

import inspect
import re
import shutil
from dataclasses import MISSING, fields, is_dataclass
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from urllib.parse import unquote, urlsplit

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.highlighting import lexers
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.logging import getLogger
from sphinx.util.typing import stringify_annotation

from passt_bench import __version__

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"^- \[(.+?)\]\(([\w-]+)\.md\)", re.M)  # an entry of the navigation

project, author, release = "passt-bench", "The passt-bench authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "passt-bench"
html_copy_source = False
html_show_copyright = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
default_role = "py:obj"  # docstrings quote names in single backticks
highlight_language = "text"  # of blocks without a language: commands
lexers["csv"] = TextLexer()
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "report": "reports/{{path}}"}
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Floats")}
python_maximum_signature_line_length = 120


def prepare_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Adds to a page what only the site has."""
    text, index = source[0], (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    titles = {page: title for title, page in LINK.findall(index)}
    if name == "index":
        text += navigation(text)
    if name == "api":
        text = re.sub(r"^- `([\w.]+)`(?:: (.+))?$", documented, text, flags=re.M)
    text = re.sub(r"\[([\w-]+)\.md\](?=\(\1\.md)", lambda found: f"[{titles[found[1]]}]", text)
    text = text.replace("](../reports/", "](report:")
    # Other files of the repository are not on the site; their names stay.
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", text)


def navigation(index: str) -> str:
    """The lists of index.md as the entries of the side bar, under its headings."""
    parts = []
    for section in index.split("\n## ")[1:]:
        pages = "\n".join(f"{title} <{page}>" for title, page in LINK.findall(section))
        caption = section.splitlines()[0]
        parts.append(f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n")
    return "".join(parts)


def documented(entry: re.Match[str]) -> str:
    """The directive that shows a docstring, and for a class those of its methods, or of some."""
    place, _, name = entry[1].rpartition(".")
    found = getattr(import_module(place), name)
    lines = f".. auto{'class' if inspect.isclass(found) else 'function'}:: {entry[1]}\n"
    if inspect.isclass(found) and not place.endswith(".testing"):
        lines += f"   :members: {(entry[2] or '').replace('`', '')}\n"
    return f"```{{eval-rst}}\n{lines}```\n"


def describe_fields(
    app: Sphinx, what: str, name: str, found: Any, options: Any, lines: list[str]
) -> None:
    """Lists the fields of a dataclass with their types, descriptions and defaults."""
    if what != "class" or not is_dataclass(found) or ":ivar" in "\n".join(lines):
        return
    plain, marked = get_type_hints(found), get_type_hints(found, include_extras=True)
    # Sphinx knows a comment about a field by its colon, which the package's comments do not have.
    code = inspect.getsource(import_module(found.__module__)).replace("# ", "#: ")
    comments = ModuleAnalyzer.for_string(code, found.__module__).find_attr_docs()
    lines.append("")
    for field in fields(found):
        marks = get_args(marked[field.name]) if get_origin(marked[field.name]) is Annotated else ()
        texts = [mark.description for mark in marks if getattr(mark, "description", None)]
        texts += comments.get((found.__qualname__, field.name), [])
        text = " ".join(texts).strip()
        if field.default is not MISSING:
            text += f"{' ' if text else ''}[``{field.default!r}``]"
        lines += [f":param {field.name}: {text}"]
        lines += [f":type {field.name}: {stringify_annotation(plain[field.name], 'smart')}"]


def shorten_signature(
    app: Sphinx,
    what: str,
    name: str,
    found: Any,
    options: Any,
    signature: str | None,
    returned: str | None,
) -> tuple[str, str | None] | None:
    """Leaves out the fields of a dataclass, which are listed below it, and shortens aliases."""
    if what == "class" and is_dataclass(found):
        return "", ""
    if signature is None:
        return None
    return re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", signature), returned


class Page(HTMLParser):
    """The anchors of a page of the site, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Takes from a tag what is needed."""
        given = dict(attributes)
        self.anchors |= {given.get("id") or ""}
        if tag == "a":
            self.links.append(given.get("href") or "")
        else:
            self.loaded += [given[key] or "" for key in ("src", "href") if key in given]


def finish_site(app: Sphinx, error: Exception | None) -> None:
    """Copies the reports, and warns of links that lead nowhere and of files from elsewhere."""
    if error is not None or app.builder.name != "html":
        return
    log, out = getLogger(__name__), Path(app.outdir)
    without = shutil.ignore_patterns(".*", "*.gz")
    shutil.copytree(ROOT / "reports", out / "reports", ignore=without, dirs_exist_ok=True)
    pages = {path: Page(path) for path in out.rglob("*.html") if "reports" not in path.parts}
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            target = urlsplit(link)
            if target.scheme or target.netloc:
                if link in page.loaded and target.scheme != "data":
                    log.warning("%s loads %s", path.name, link)
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            known = pages[file].anchors if file in pages else {target.fragment}
            if not file.exists() or unquote(target.fragment) not in known:
                log.warning("%s links to %s, which does not exist", path.name, link)
    for style in out.rglob("*.css"):
        if re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text("utf-8")):
            log.warning("%s loads files from elsewhere", style.name)


def setup(app: Sphinx) -> None:
    """Connects the functions above."""
    app.connect("source-read", prepare_page)
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("build-finished", finish_site)
