"""Entry point of the `aznas` command; turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import sys
from collections.abc import Sequence
from typing import Any

import click

from aznas_onnx.cli.console import forget_stdout, open_closed_streams, write_traceback
from aznas_onnx.cli.exit_codes import BAD_INPUT, DONE, INTERRUPTED
from aznas_onnx.errors import AznasError
from aznas_onnx.escaping import printable, shortened

__all__ = ["aznas", "main", "run"]

# A command is imported, by this name, when it runs, and imports the library only then: `aznas --help` stays fast.
_COMMANDS = {
    "score": "Score networks and rank them.",
    "inspect": "Show the blocks of a network and their cost.",
    "gate": "Reject a candidate that is worse than a shipped model.",
    "spaces": "List search spaces; sample and build networks.",
    "proxies": "List the proxies that --proxies accepts.",
    "search": "Find the best networks of a space within a budget.",
    "bench": "Compare scores with measured accuracies.",
    "report": "Write a page on benchmark scores, with plots.",
    "export": "Write the best networks of a search.",
    "reference": "Build, extend and show reference sets.",
}


class _LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"aznas_onnx.cli.commands.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS:
            import difflib  # late: every start of the command would wait for it

            for close in difflib.get_close_matches(args[0], _COMMANDS, n=1):
                ctx.fail(f"No such command {args[0]!r}. Did you mean {close!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a closed pipe can be distinguished from an error
        except BrokenPipeError:
            forget_stdout()
            return DONE  # the reader, `head` perhaps, has seen enough
        except SystemExit as error:  # of a Python file that the command ran: its status would look like the command's
            raise AznasError(f"a Python file that the command executed ended it (SystemExit: {error.code})") from error
        return result


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version  # reading the metadata takes longer than all the rest of --help

        click.echo(f"aznas-onnx {version('aznas-onnx')}")
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def aznas() -> None:
    """Score neural networks without training them.

    The input is any ONNX file. One forward and one backward pass with random weights give the four AZ-NAS proxies:
    expressivity, progressivity, trainability and complexity. Higher is better.

    \b
    Examples:
      aznas score a.onnx b.onnx                    score two networks and rank them
      aznas inspect a.onnx                         blocks, MACs and parameters
      aznas gate new.onnx --baseline old.onnx      is it as good as the old one?
      aznas search --space mbv2 --flops 600M       the best networks in a budget

    Exit status: 0 done or passed, 1 rejected by the gate, 2 bad usage or bad input, 3 some of several inputs failed,
    130 interrupted.
    """


def main() -> None:
    """Run the command with the process's arguments and exit with its status.

    A bug leaves its traceback and status 2: Python's own 1 would mean that the gate rejects.
    """
    try:
        status = run(sys.argv[1:])
    except Exception:  # noqa: BLE001
        with contextlib.suppress(OSError, ValueError):
            write_traceback()
        status = BAD_INPUT
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Run the command.

    - `arguments`: The arguments after `aznas`.

    Returns: The exit status. An error that is not an :class:`AznasError` is a bug and is raised.
    """
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a letter of a model's name gets its code instead
            stream.reconfigure(errors="backslashreplace")
    try:
        status = aznas.main(list(arguments), prog_name="aznas", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().splitlines():
            click.echo(printable(shortened(line)), err=True)
        return BAD_INPUT
    except AznasError as error:
        click.echo(f"aznas: {printable(shortened(str(error)))}", err=True)
        return BAD_INPUT
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        forget_stdout()
        click.echo(f"aznas: the output cannot be written: {error.strerror}", err=True)
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo("aznas: interrupted", err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else DONE
