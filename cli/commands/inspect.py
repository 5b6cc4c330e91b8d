"""`aznas inspect`: blocks, multiply-adds and parameters of one model; no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aznas_onnx.cli.exit_codes import DONE
from aznas_onnx.cli.options import OutputFormat, format_option, reading_options
from aznas_onnx.declared_settings import BLOCKS, KEEP_GRAPH
from aznas_onnx.errors import AznasError

if TYPE_CHECKING:
    from aznas_onnx.graph import Value

__all__ = ["inspect"]

_NOT_VERIFIED = {
    "differs": "the converted network differs from ONNX Runtime",
    "cannot tell": (
        "this network's outputs hardly depend on what it is fed, or amplify the rounding of floats, with any weights "
        "that were tried; comparing it with ONNX Runtime proves nothing"
    ),
}


@click.command()
@click.argument("model", metavar="MODEL", type=click.Path())
@format_option
@click.option("--nodes", "show_nodes", is_flag=True, help="Show each node of the graph that is scored.")
@click.option(
    "--why",
    "show_why",
    is_flag=True,
    help="Show which patterns were nearly recognised, and after which layers no normalisation was restored, and why.",
)
@reading_options(BLOCKS, KEEP_GRAPH)
@click.option(
    "--verify",
    "with_verification",
    is_flag=True,
    help="Run the converted network and ONNX Runtime on the same random weights and input, and compare their "
    "difference with that between two samples. Loads PyTorch, which takes seconds.",
)
@click.option(
    "--latency",
    "with_latency",
    is_flag=True,
    help="Measure the latency of one sample in ONNX Runtime on one thread of this machine's CPU.",
)
def inspect(
    model: str,
    output_format: OutputFormat,
    show_nodes: bool,
    show_why: bool,
    input_shapes: dict[str, tuple[int, ...]],
    values: dict[str, Value],
    cut_at: tuple[str, ...],
    blocks: tuple[str, ...],
    keep_graph: bool,
    time_limit: float | None,
    with_verification: bool,
    with_latency: bool,
) -> int:
    """Show the primary blocks of a model, each with its reason, and the MACs and parameters of each.

    MODEL is an ONNX file, or the name of a network of timm or torchvision, such as timm:resnet50. MACs are
    multiply-adds of one sample. Parameters are trainable elements.

    \b
    Examples:
      aznas inspect resnet50.onnx
      aznas inspect encoder.onnx --input image=1x3x224x224
      aznas inspect detector.onnx --cut-at boxes --cut-at scores
      aznas inspect net.onnx --format json | jq .macs
      aznas inspect net.onnx --why                   why was this LayerNormalization not recognised?
      aznas inspect net.onnx --blocks '*/layer?.?/Add'   end a block at each of these
    """
    from aznas_onnx.cli.console import diagnostics, results
    from aznas_onnx.cli.named_networks import export_named
    from aznas_onnx.cli.render.inspect import render_inspection
    from aznas_onnx.escaping import printable
    from aznas_onnx.inspection import inspect as inspect_model
    from aznas_onnx.limits import within

    export_named([model])
    limits = within(time_limit)
    reading: dict[str, Any] = {"input_shapes": input_shapes, "cut_at": cut_at, "values": values, "limits": limits}
    inspection = inspect_model(model, **reading, blocks=blocks, keep_graph=keep_graph)
    verification = None
    if with_verification:
        from aznas_onnx.verify import verify

        verification = verify(model, **reading)
    latency = None
    if with_latency:
        from aznas_onnx.latency import Stopwatch

        watch = Stopwatch(model, inspection.run_shapes, values)
        latency = watch.measure().divided(inspection.run_batch)
    for warning in inspection.warnings:
        diagnostics().print(f"warning: {printable(warning)}", style="yellow")
    render_inspection(
        inspection,
        output_format,
        results(),
        show_nodes=show_nodes,
        show_why=show_why,
        verification=verification,
        latency=latency,
    )
    if verification is not None and not verification.agrees:
        raise AznasError(f"{model}: {_NOT_VERIFIED[verification.verdict.value]}")
    return DONE
