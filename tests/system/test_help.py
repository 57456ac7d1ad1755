"""The options of all commands: their help and one meaning for each."""

import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from passt_bench import __version__
from passt_bench.cli import app

HELP = Path(__file__).with_name("help.txt")


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name, group
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


def help_texts() -> str:
    lines = []
    for name, command in COMMANDS.items():
        lines.append(f"passt-bench {name}".strip() + f": {' '.join(command.help.split())}")
        for item in (param for param in command.params if not getattr(param, "hidden", False)):
            names = "/".join((*item.opts, *item.secondary_opts))
            known = item.show_default if isinstance(item.show_default, str) else item.default
            default = "" if known in (None, False, "") else f" [{known}]"
            lines.append(f"    {names} {item.metavar or ''}: {item.help}{default}")
    return "\n".join(lines) + "\n"


def test_the_help_of_every_command() -> None:
    """After a change: look at it, then `python tests/system/test_help.py` writes it anew."""
    assert help_texts() == HELP.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in COMMANDS if name and " " not in name])
def test_every_command_has_an_example_that_it_understands(name: str) -> None:
    command = COMMANDS[name]
    if hasattr(command, "commands"):  # a group shows its commands
        return
    first, given, *words = shlex.split(command.epilog.removeprefix("Example: "))
    assert (first, given) == ("passt-bench", name)
    command.make_context(name, words, resilient_parsing=True)
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


def test_every_option_has_one_meaning() -> None:
    meanings = defaultdict[str, set[str | None]](set)
    for command in COMMANDS.values():
        for option in command.params:
            if option.opts[0].startswith("--"):
                meanings[option.opts[0]].add(option.metavar)
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}
    assert {"--runs", "--reports", "--output", "--folder"} <= set(meanings)


def test_help_by_either_name(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["-h"], ["data", "check", "-h"], ["data", "check", "--help"]):
        app(words, prog_name="passt-bench", standalone_mode=False)
        assert f"Usage: passt-bench {' '.join(words[:-1])}".strip() in capsys.readouterr().out


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    app(["--version"], standalone_mode=False)
    assert capsys.readouterr().out == f"passt-bench {__version__}\n"


if __name__ == "__main__":
    HELP.write_text(help_texts(), encoding="utf-8")
