"""`aznas spaces`: list spaces, sample genotypes, build networks; no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from aznas_onnx.cli.exit_codes import DONE
from aznas_onnx.cli.options import OutputFormat, file_option, format_of, format_option, space_options, whole_option
from aznas_onnx.cli.words import without_markup
from aznas_onnx.counts import format_count
from aznas_onnx.errors import SettingsError
from aznas_onnx.escaping import json_text, printable

__all__ = ["spaces"]


def complete_space(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of spaces that begin with what was typed, for the shell."""
    from aznas_onnx.spaces import records

    return [record.name for record in records() if record.name.startswith(incomplete)]


space_argument = click.argument("name", shell_complete=complete_space)


@click.group(invoke_without_command=True)
@click.pass_context
def spaces(ctx: click.Context) -> int | None:
    """List the search spaces, sample networks from them, build one as ONNX.

    NAME is a space of the list, or the path of a Python file with your own space.

    \b
    Examples:
      aznas spaces
      aznas spaces sample nb201 --count 3
      aznas spaces build nb201 "$(aznas spaces sample nb201)" -o net.onnx
    """
    return None if ctx.invoked_subcommand else ctx.invoke(list_spaces)


@spaces.command(name="list")
@format_option
def list_spaces(output_format: OutputFormat = OutputFormat.TABLE) -> int:
    """List the bundled and installed spaces."""
    from aznas_onnx.cli.console import results
    from aznas_onnx.cli.render.tables import Cells, Column, write_list
    from aznas_onnx.spaces import records

    rows = [(record.name, record.description) for record in records()]
    listed = [{"name": name, "description": description} for name, description in rows]
    columns = (Column("Space", Cells.NAMES), Column("Description", Cells.TEXTS))
    document = {"schema": "aznas.spaces/1", "spaces": listed}
    write_list(results(), output_format, document, ("name", "description"), columns, rows)
    return DONE


@spaces.command()
@space_argument
@space_options
def show(name: str, space_options: dict[str, int | str]) -> int:
    """Describe a space, with one sampled network."""
    import inspect

    import numpy as np

    from aznas_onnx.spaces import get

    space = get(name, **space_options)
    genotype = space.sample(np.random.default_rng(0))
    size, words = space.resolution, space.vocabulary
    samples = f"{size}x{size} images" if words is None else f"{size} tokens of {words} words"
    click.echo(f"{space.name}: {samples}, {space.num_classes} classes\n")
    click.echo(f"{without_markup(inspect.getdoc(type(space)) or '')}\n")
    click.echo(f"A network sampled from it:\n  {space.format(genotype)}\n  {_counts_text(space, genotype)}")
    return DONE


@spaces.command()
@space_argument
@whole_option("--count", default=1, help="Number of networks.")
@whole_option("--seed", least=0, default=0, help="Seed of the random generator.")
@format_of("text", "json", "csv", text="text writes one genotype a line; json and csv add MACs, parameters and layers.")
@space_options
def sample(name: str, count: int, seed: int, output_format: str, space_options: dict[str, int | str]) -> int:
    """Sample networks at random and write their genotypes."""
    import numpy as np

    from aznas_onnx.spaces import as_user_error, get

    space = get(name, **space_options)
    rng = np.random.default_rng(seed)
    with as_user_error(space, "give a sample"):
        genotypes = [space.sample(rng) for _ in range(count)]
    if output_format == "text":
        for genotype in genotypes:
            click.echo(space.format(genotype))
        return DONE
    rows = [
        {"genotype": space.format(g), "macs": space.macs(g), "params": space.params(g), "layers": space.layers(g)}
        for g in genotypes
    ]
    if output_format == "json":
        document = {"schema": "aznas.sample/1", "space": space.name, "seed": seed, "networks": rows}
        click.echo(json_text(document))
    else:
        from aznas_onnx.cli.render.tables import write_csv

        write_csv(sys.stdout, list(rows[0]), [list(row.values()) for row in rows])
    return DONE


@spaces.command(short_help="Build a network as ONNX.")
@space_argument
@click.argument("genotype")
@file_option("-o", "--output", required=True, help="The ONNX file to write.")
@space_options
def build(name: str, genotype: str, output: Path, space_options: dict[str, int | str]) -> int:
    """Build a network as ONNX with weights of zero: scoring initialises them itself."""
    from aznas_onnx.spaces import as_user_error, get

    space = get(name, **space_options)
    parsed = space.parse(genotype)
    with as_user_error(space, f"build {genotype}"):
        data = space.build(parsed).SerializeToString()
    try:
        output.write_bytes(data)
    except OSError as error:
        raise SettingsError(f"{output} cannot be written: {error.strerror or error}") from error
    click.echo(f"wrote {printable(str(output))}: {_counts_text(space, parsed)}", err=True)
    return DONE


def _counts_text(space: Any, genotype: Any) -> str:
    macs, params = format_count(space.macs(genotype)), format_count(space.params(genotype))
    return f"{macs} multiply-adds, {params} parameters, {space.layers(genotype)} layers"
