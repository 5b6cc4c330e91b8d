"""What becomes of errors, and what the command offers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from aznas_onnx.cli import main
from aznas_onnx.cli.main import aznas, run
from aznas_onnx.errors import AznasError, ModelError


@pytest.fixture
def raise_from_command(monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a function that makes every command raise an error."""

    def arrange(error: BaseException) -> None:
        @click.command()
        def broken() -> None:
            raise error

        monkeypatch.setattr(main._LazyGroup, "get_command", lambda self, ctx, name: broken)

    return arrange


def test_help_lists_the_commands_in_the_order_of_their_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.index("\n  score ") < text.index("\n  inspect ") < text.index("\n  spaces ")


@pytest.mark.parametrize("name", aznas.list_commands(click.Context(aznas)))
def test_every_command_explains_itself_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"  aznas {name}" in capsys.readouterr().out.split("Examples:")[1]


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gat", "x"]) == 2
    assert "No such command 'gat'. Did you mean 'gate'?" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("aznas-onnx ")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["score"], ["inspect", "--nonsense", "x"], ["inspect"], ["--nonsense"]]
)
def test_bad_usage_is_status_2_and_says_so_on_stderr(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err


def test_an_expected_error_is_one_sentence_and_status_2(raise_from_command, capsys: pytest.CaptureFixture[str]) -> None:
    raise_from_command(ModelError("net.onnx: node 'a\nb\x1b[2J' has no shape"))
    assert run(["anything"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "aznas: net.onnx: node 'a\\nb\\x1b[2J' has no shape\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_is_status_130(error: BaseException, raise_from_command) -> None:
    raise_from_command(error)
    assert run(["anything"]) == 130


def test_a_bug_keeps_its_traceback(raise_from_command) -> None:
    raise_from_command(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(["anything"])


def test_an_error_of_click_is_status_2_whatever_its_own_status(raise_from_command) -> None:
    raise_from_command(click.FileError("net.onnx", "no such file"))
    assert run(["anything"]) == 2


def test_every_error_of_the_package_has_the_one_root() -> None:
    from aznas_onnx import errors

    public = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(value, AznasError) for value in public if isinstance(value, type))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("aznas in", "plain,inspect"),
        ("aznas score mo", "file,mo"),
        ("aznas score --see", "plain,--seed"),
        ("aznas spaces show nb", "plain,nb201"),
    ],
)
def test_the_shell_completes(typed: str, offered: str) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_AZNAS_COMPLETE": "bash_complete"}
    command = [sys.executable, "-c", "from aznas_onnx.cli.main import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **words})
    assert offered in done.stdout.splitlines()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "from aznas_onnx.cli.main import main; main()"
    command = [sys.executable, "-c", code, "spaces", "sample", "nb201", "--count", "20000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_terminal_that_lacks_letters_is_no_error() -> None:
    code = "from aznas_onnx.cli.main import main; main()"
    command = [sys.executable, "-c", code, "spaces", "list"]
    done = subprocess.run(command, capture_output=True, check=False, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_output_that_is_full_is_one_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "aznas_onnx", "spaces"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["aznas: the output cannot be written: No space left on device"]
