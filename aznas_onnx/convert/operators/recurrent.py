"""LSTM, GRU and RNN with every option of the operators.

A loop over time in plain tensor operations: options such as peepholes, clipping, coupled gates or a reset before the
product have no counterpart in torch's own cells, and the product with the input is computed for all steps at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, number, numbers, text, texts
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor
State: TypeAlias = tuple[Tensor, ...]
Activation: TypeAlias = Callable[[Tensor], Tensor]

#: name: (function, default alpha, default beta); None where the function takes no such number.
_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], float | None, float | None]] = {
    "relu": (torch.relu, None, None),
    "tanh": (torch.tanh, None, None),
    "sigmoid": (torch.sigmoid, None, None),
    "softsign": (F.softsign, None, None),
    "softplus": (F.softplus, None, None),
    "affine": (lambda x, alpha, beta: alpha * x + beta, 1.0, 0.0),
    "leakyrelu": (lambda x, alpha: F.leaky_relu(x, alpha), 0.01, None),
    "thresholdedrelu": (lambda x, alpha: torch.where(x >= alpha, x, 0.0), 1.0, None),
    "scaledtanh": (lambda x, alpha, beta: alpha * torch.tanh(beta * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, alpha, beta: torch.clamp(alpha * x + beta, 0.0, 1.0), 0.2, 0.5),
    "elu": (lambda x, alpha: F.elu(x, alpha), 1.0, None),
}
#: ONNX has no default for these, and runtimes disagree.
_WITHOUT_DEFAULTS = frozenset(("affine", "scaledtanh", "thresholdedrelu"))


@dataclass(frozen=True, slots=True)
class _Cell:
    """Common parts of the three operators: gates in W and R, states, and activations per direction."""

    gates: int
    states: int
    defaults: tuple[str, ...]
    step: Callable[..., State]  # (weights, activations, input part, states) -> new states


@dataclass(frozen=True, slots=True)
class _Weights:
    """The recurrent weights of one direction; biases and peepholes are None where omitted."""

    recurrent: Tensor
    recurrent_bias: Tensor | None
    peepholes: Tensor | None


def _lstm_step(
    weights: _Weights, functions: list[Activation], x: Tensor, states: State, *, clip: float, coupled: bool
) -> State:
    hidden, cell = states
    total = F.linear(hidden, weights.recurrent, weights.recurrent_bias) + x
    to_input, to_output, to_forget, to_cell = total.chunk(4, dim=-1)
    peeps = (None, None, None) if weights.peepholes is None else weights.peepholes.chunk(3)
    gate, squash, show = functions
    opened = gate(_clipped(_peeped(to_input, peeps[0], cell), clip))
    kept = 1 - opened if coupled else gate(_clipped(_peeped(to_forget, peeps[2], cell), clip))
    cell = kept * cell + opened * squash(_clipped(to_cell, clip))
    shown = gate(_clipped(_peeped(to_output, peeps[1], cell), clip))
    return shown * show(cell), cell


def _gru_step(
    weights: _Weights, functions: list[Activation], x: Tensor, states: State, *, clip: float, linear_first: bool
) -> State:
    (hidden,) = states
    gate, squash = functions
    size = hidden.shape[-1]
    bias = weights.recurrent_bias
    gates = F.linear(hidden, weights.recurrent[: 2 * size], None if bias is None else bias[: 2 * size])
    update, reset = gate(_clipped(gates + x[..., : 2 * size], clip)).chunk(2, dim=-1)
    recurrent, new_bias = weights.recurrent[2 * size :], None if bias is None else bias[2 * size :]
    if linear_first:
        proposed = reset * F.linear(hidden, recurrent, new_bias)
    else:
        proposed = F.linear(reset * hidden, recurrent, new_bias)
    new = squash(_clipped(proposed + x[..., 2 * size :], clip))
    return ((1 - update) * new + update * hidden,)


def _rnn_step(weights: _Weights, functions: list[Activation], x: Tensor, states: State, *, clip: float) -> State:
    total = F.linear(states[0], weights.recurrent, weights.recurrent_bias) + x
    return (functions[0](_clipped(total, clip)),)


def _clipped(x: Tensor, clip: float) -> Tensor:
    return x.clamp(-clip, clip) if clip else x


def _peeped(x: Tensor, peephole: Tensor | None, cell: Tensor) -> Tensor:
    return x if peephole is None else x + peephole * cell


def lstm(node: Node, context: Context) -> Call:
    step = partial(_lstm_step, clip=number(node, "clip", 0.0), coupled=bool(integer(node, "input_forget", 0)))
    return _convert(node, _Cell(4, 2, ("sigmoid", "tanh", "tanh"), step))


def gru(node: Node, context: Context) -> Call:
    linear_first = bool(integer(node, "linear_before_reset", 0))
    step = partial(_gru_step, clip=number(node, "clip", 0.0), linear_first=linear_first)
    return _convert(node, _Cell(3, 1, ("sigmoid", "tanh"), step))


def rnn(node: Node, context: Context) -> Call:
    return _convert(node, _Cell(1, 1, ("tanh",), partial(_rnn_step, clip=number(node, "clip", 0.0))))


def _convert(node: Node, cell: _Cell) -> Call:
    direction = text(node, "direction", "forward")
    reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    functions = _activations(node, cell, len(reverse))
    batch_first = bool(integer(node, "layout", 0))

    def run(
        x: Tensor,
        input_weights: Tensor,
        recurrent: Tensor,
        bias: Tensor | None,
        lengths: Tensor | None,
        *rest: Tensor | None,
    ) -> tuple[Tensor, ...]:
        x = x.transpose(0, 1) if batch_first else x
        initial, peepholes = rest[: cell.states], rest[cell.states] if len(rest) > cell.states else None
        if batch_first:
            initial = tuple(None if state is None else state.transpose(0, 1) for state in initial)
        width = cell.gates * recurrent.shape[-1]
        outputs, finals = [], []
        for index, backwards in enumerate(reverse):
            own_bias = None if bias is None else bias[index]
            weights = _Weights(
                recurrent[index],
                None if own_bias is None else own_bias[width:],
                None if peepholes is None else peepholes[index],
            )
            projected = F.linear(x, input_weights[index], None if own_bias is None else own_bias[:width])
            zeros = x.new_zeros(x.shape[1], recurrent.shape[-1])
            states = tuple(zeros if state is None else state[index] for state in initial)
            hidden, states = _run_direction(
                partial(cell.step, weights, functions[index]), projected, states, lengths, backwards
            )
            outputs.append(hidden)
            finals.append(states)
        every = torch.stack(outputs, dim=1)  # (time, direction, batch, hidden)
        last = tuple(torch.stack(states) for states in zip(*finals, strict=True))
        if batch_first:
            return (every.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
        return (every, *last)

    names = [node.input(index) for index in range(5 + cell.states + (cell.gates == 4))]
    return Call(run, tuple(names))


def _run_direction(
    step: Callable[[Tensor, State], State], x: Tensor, states: State, lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, State]:
    """Return the hidden states, (time, batch, hidden), and the final states; past its length a sample rests."""
    times = range(x.shape[0])
    hidden: list[Tensor] = []
    for time in reversed(times) if backwards else times:
        new = step(x[time], states)
        if lengths is None:
            states, shown = new, new[0]
        else:
            inside = (time < lengths)[:, None]
            states = tuple(torch.where(inside, fresh, old) for fresh, old in zip(new, states, strict=True))
            shown = torch.where(inside, new[0], 0.0)
        hidden.append(shown)
    if backwards:
        hidden.reverse()
    return torch.stack(hidden), states


def _activations(node: Node, cell: _Cell, directions: int) -> list[list[Activation]]:
    """Return the functions of each direction; alphas and betas go in order to the functions that take them."""
    names = texts(node, "activations") or cell.defaults * directions
    alphas, betas = list(numbers(node, "activation_alpha") or ()), list(numbers(node, "activation_beta") or ())
    functions: list[Activation] = []
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise unsupported(node, f"has activation {name!r}", f"{', '.join(sorted(_ACTIVATIONS))} are supported")
        function, alpha, beta = _ACTIVATIONS[name.lower()]
        options: dict[str, float] = {}
        if name.lower() in _WITHOUT_DEFAULTS and not alphas:
            raise unsupported(node, f"has activation {name!r} without its alpha", "runtimes disagree on a default")
        if alpha is not None:
            options["alpha"] = alphas.pop(0) if alphas else alpha
        if beta is not None:
            options["beta"] = betas.pop(0) if betas else beta
        functions.append(partial(function, **options))
    size = len(cell.defaults)
    return [functions[index * size : (index + 1) * size] for index in range(directions)]
