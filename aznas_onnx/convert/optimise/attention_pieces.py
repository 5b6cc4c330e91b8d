"""Run large attention on a CPU in pieces: the scores of a few heads at a time, which stay in the processor's cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass, replace
from typing import Any

import torch

from aznas_onnx.convert.attributes import integer
from aznas_onnx.convert.optimise.grouped_look_ups import MixWithPositions, ScoresWithPositions, with_members
from aznas_onnx.convert.program import Program, Step
from aznas_onnx.graph.ir.graph import Graph
from aznas_onnx.graph.ir.tensor_info import TensorInfos

__all__ = ["AttentionInPieces", "with_attention_in_pieces"]

Tensor = torch.Tensor

_LEAST_BYTES = 2**22  # of all scores; below it, pieces gain nothing
_PIECE_BYTES = 2**20  # of the scores of a piece, for each thread


def with_attention_in_pieces(
    program: Program, graph: Graph, infos: TensorInfos, keep: Collection[str], device: torch.device
) -> Program:
    """Return a program in which large scores, their Softmax and the sums that it weights are one step.

    - `program`: Compiled from `graph`, for `device`.
    - `infos`: Shapes of the graph's tensors.
    - `keep`: Tensors needed after the run, besides the program's outputs.
    """
    if device.type != "cpu":
        return program
    joined: dict[str, Step] = {}
    absorbed: set[str] = set()
    for parts in _found(program, graph, infos, {*keep, *program.outputs}):
        step = _joined(*parts)
        joined[step.node] = step
        absorbed.update(part.node for part in parts[:2])
    return replace(
        program, steps=tuple(joined.get(step.node, step) for step in program.steps if step.node not in absorbed)
    )


def _found(program: Program, graph: Graph, infos: TensorInfos, kept: Set[str]) -> Iterator[tuple[Step, Step, Step]]:
    """Yield the steps that make scores, their softmax, and the sums."""
    nodes = {node.name: node for node in graph.nodes}
    makers = {name: step for step in program.steps for name in step.outputs}
    readers: dict[str, list[Step]] = defaultdict(list)
    for step in program.steps:
        for name in step.inputs:
            readers[name].append(step)

    def multiplies(step: Step) -> bool:
        """Whether a step is a product with one left and one right matrix for each head, of positions or not."""
        if isinstance(step.run, (ScoresWithPositions, MixWithPositions)):
            return True
        left, right = (infos[name].shape or () for name in step.inputs[:2]) if len(step.inputs) == 2 else ((), ())
        return nodes[step.node].is_op("MatMul") and not step.absorbed and len(left) == 4 and left[:2] == right[:2]

    for step in program.steps:
        node = nodes[step.node]
        if not node.is_op("Softmax") or node.version < 13 or infos[node.outputs[0]].size_bytes < _LEAST_BYTES:
            continue
        (name,), (weights,) = step.inputs, step.outputs
        scores, mixes = makers.get(name), readers[weights]
        if scores is None or len(mixes) != 1 or len(readers[name]) != 1 or not kept.isdisjoint((name, weights)):
            continue
        mix = mixes[0]
        is_last = integer(node, "axis", -1) in (-1, len(infos.shape(name)) - 1)
        if not (is_last and multiplies(scores) and multiplies(mix)):
            continue
        if mix.inputs[0] == weights != mix.inputs[1] and mix.outputs[0] not in kept:
            yield scores, step, mix


def _joined(scores: Step, softmax: Step, mix: Step) -> Step:
    queries, keys, *key_tables = scores.inputs
    _, values, *value_tables = mix.inputs
    run = AttentionInPieces(
        scores=scores.run if isinstance(scores.run, ScoresWithPositions) else None,
        mix=mix.run if isinstance(mix.run, MixWithPositions) else None,
        key_tables=len(key_tables),
    )
    return replace(
        mix,
        run=run,
        inputs=(queries, keys, values, *key_tables, *value_tables),
        absorbed=(*scores.absorbed, scores.node, softmax.node, *mix.absorbed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionInPieces:
    """Attention: the function of a step of ``(queries, keys, values, *tables)``.

    - `scores`, `mix`: The products that have relative positions.
    - `key_tables`: How many of the tables are those of `scores`.
    """

    scores: ScoresWithPositions | None
    mix: MixWithPositions | None
    key_tables: int

    def __call__(
        self, queries: Tensor, keys: Tensor, values: Tensor, *tables: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the sums of the values, and those of the tables if `mix` has positions."""
        key_tables, value_tables = tables[: self.key_tables], tables[self.key_tables :]
        wide = queries if self.scores is None else self.scores.widened(queries, *key_tables)
        members = (None if part is None else part.members for part in (self.scores, self.mix))
        attended: Tensor = _Attended.apply(wide, keys.transpose(-1, -2), values, *members)
        return attended if self.mix is None else self.mix.narrowed(attended, *value_tables)


class _Attended(torch.autograd.Function):
    """Softmax attention of (samples, heads, tokens, width) each, with further columns for groups of keys."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        key_members: Tensor | None,
        value_members: Tensor | None,
    ) -> Tensor:
        wide = _flat(queries)
        tall = _flat(keys if key_members is None else with_members(keys, key_members))
        summed = _flat(values if value_members is None else with_members(values, value_members))
        pieces = _pieces(wide, tall)
        is_saved = any(ctx.needs_input_grad)
        scores = wide.new_empty(pieces[0].stop, wide.shape[1], tall.shape[1])
        all_weights = wide.new_empty(len(wide), *scores.shape[1:]) if is_saved else torch.empty_like(scores)
        result = wide.new_empty(*wide.shape[:2], summed.shape[2])
        for piece in pieces:
            first = slice(piece.stop - piece.start)
            weights = all_weights[piece if is_saved else first]
            torch.bmm(wide[piece], tall[piece].transpose(1, 2), out=scores[first])
            torch.bmm(torch.softmax(scores[first], -1, out=weights), summed[piece], out=result[piece])
        if is_saved:
            ctx.save_for_backward(wide, tall, summed, all_weights)
            ctx.widths = keys.shape[-1], values.shape[-1]
        # No view, so that a later step can overwrite it.
        shaped: Tensor = torch.ops.aten._unsafe_view(result, (*queries.shape[:-1], result.shape[2]))
        return shaped

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wide, tall, summed, all_weights = ctx.saved_tensors
        key_width, value_width = ctx.widths
        leading, gradient = gradient.shape[:2], _flat(gradient)
        by_wide = torch.empty_like(wide)
        by_keys = tall.new_empty(*tall.shape[:2], key_width)
        by_values = summed.new_empty(*summed.shape[:2], value_width)
        pieces = _pieces(wide, tall)
        scratch = torch.empty_like(all_weights[pieces[0]])
        for piece in pieces:
            weights, by_scores, by_sums = all_weights[piece], scratch[: piece.stop - piece.start], gradient[piece]
            torch.bmm(by_sums, summed[piece].transpose(1, 2), out=by_scores)
            torch.ops.aten._softmax_backward_data.out(by_scores, weights, -1, weights.dtype, grad_input=by_scores)
            torch.bmm(by_scores, tall[piece], out=by_wide[piece])
            torch.bmm(by_scores.transpose(1, 2), wide[piece, :, :key_width], out=by_keys[piece])
            torch.bmm(weights.transpose(1, 2), by_sums[..., :value_width], out=by_values[piece])
        return *(part.view(*leading, *part.shape[1:]) for part in (by_wide, by_keys, by_values)), None, None


def _flat(x: Tensor) -> Tensor:
    """Return (samples and heads, rows, columns)."""
    return x.reshape(-1, *x.shape[-2:])


def _pieces(queries: Tensor, keys: Tensor) -> list[slice]:
    """Return the samples and heads of each piece."""
    bytes_each = queries.shape[1] * keys.shape[1] * queries.element_size()
    size = max(1, _PIECE_BYTES * torch.get_num_threads() // bytes_each)
    return [slice(start, min(start + size, len(queries))) for start in range(0, len(queries), size)]
