"""The documentation: its links and anchors lead somewhere, each page is in the navigation, and the
commands in it exist, with their options. `nox -s docs` builds the site, which is not done here."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
OPTIONS = ("--version", "--help")
HELP = (ROOT / "tests" / "system" / "help.txt").read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(path: Path) -> list[str]:
    """Targets of a page's links and images, without those on other sites."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    return [target for target in targets if "://" not in target]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_it_links_to_exists(path: Path) -> None:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation_once() -> None:
    listed = [link for link in links(ROOT / "docs" / "index.md") if link.endswith(".md")]
    pages = [path.name for path in PAGES if path.parent.name == "docs" and path.stem != "index"]
    assert sorted(listed) == pages


def known() -> dict[str, set[str]]:
    """The options of each command, from the snapshot of the help."""
    commands: dict[str, set[str]] = {}
    for block in re.split(r"^(?=passt-bench)", HELP, flags=re.MULTILINE)[1:]:
        found = re.findall(r"^    (--[\w-]+(?:/--[\w-]+)?)", block, flags=re.MULTILINE)
        name = block.split(":")[0]
        commands[name] = {option for pair in found for option in pair.split("/")} | {*OPTIONS}
    return commands


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_its_commands_exist_with_their_options(path: Path) -> None:
    commands = known()
    assert len(commands) > 20
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for given in re.findall(r"passt-bench [^`\n]*", text):
        words = given.split("#")[0].split()
        name = " ".join(words[:3] if " ".join(words[:3]) in commands else words[:2])
        options = [word.partition("=")[0].strip("[],.;)") for word in words if word[:2] == "--"]
        if options:
            assert name in commands, given
            assert set(options) <= commands[name], given


def test_what_the_api_page_names_exists() -> None:
    names = re.findall(r"^- `([\w.]+)`", (ROOT / "docs" / "api.md").read_text("utf-8"), flags=re.M)
    assert len(names) > 20
    for name in names:
        assert resolve_name(name) is not None
