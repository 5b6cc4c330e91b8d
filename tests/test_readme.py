"""Every command and option in the README exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from aznas_onnx.cli.main import aznas

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"(?:^(?:\$ )?|`)(aznas (?:score|inspect|gate|reference|proxies|spaces|search|bench|report|export)\b[^`\n]*)",
    README,
    re.MULTILINE,
)


def parse(words: list[str]) -> None:
    """Parse a command line as Click would, without running it."""
    context = click.Context(aznas)
    command: click.Command = aznas
    while isinstance(command, click.Group) and len(words) > 1:
        words = words[1:]
        found = command.get_command(context, words[0])
        assert found is not None, f"{words[0]} is no command"
        command = found
    command.make_context(words[0], words[1:])


def test_the_readme_shows_each_job() -> None:
    assert {command.split()[1] for command in COMMANDS} >= {
        "score",
        "inspect",
        "gate",
        "proxies",
        "spaces",
        "search",
        "bench",
        "report",
        "export",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_are_accepted(command: str) -> None:
    parse(shlex.split(command, comments=True))


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_of_the_readme_lead_somewhere(target: str, repository: Path) -> None:
    assert (repository / target).exists()


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.MULTILINE))
def test_make_targets_of_the_readme_exist(target: str, repository: Path) -> None:
    assert re.search(rf"^{target}:", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_of_the_readme_names_what_there_is(code: str) -> None:
    import aznas_onnx

    compile(code, "README.md", "exec")
    for name in re.findall(r"\baz\.(\w+)", code):
        assert hasattr(aznas_onnx, name)
