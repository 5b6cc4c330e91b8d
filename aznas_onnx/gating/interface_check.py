"""Whether a candidate can be put where the baseline is: the names, types and shapes of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aznas_onnx.gating.model_counts import ModelCounts
from aznas_onnx.gating.policy import Policy
from aznas_onnx.gating.result import Check
from aznas_onnx.gating.sequential_test import Decision
from aznas_onnx.graph.files.interface import Port

__all__ = ["interface_checks", "interface_doubts"]


def interface_checks(candidate: ModelCounts, baselines: Sequence[ModelCounts], policy: Policy) -> list[Check]:
    """Compare interfaces where the policy demands equal ones."""
    checks = []
    for baseline in baselines if policy.interface else ():
        found = list(_differences(candidate, baseline))
        checks.append(
            Check(
                rule="interface",
                verdict=Decision.REJECT if found else Decision.PASS,
                reason=f"another interface than {baseline.model}: {'; '.join(found)}"
                if found
                else f"inputs and outputs have the names, types and shapes of those of {baseline.model}",
                against=baseline.model,
            )
        )
    return checks


def interface_doubts(candidate: ModelCounts, baselines: Sequence[ModelCounts], policy: Policy) -> list[str]:
    """Return a warning about each baseline with another interface, where the policy has no rule on that."""
    if policy.interface:
        return []
    return [
        f"{candidate.model} has another interface than {baseline.model}, which --interface rejects: {'; '.join(found)}"
        for baseline in baselines
        if (found := list(_differences(candidate, baseline)))
    ]


def _differences(candidate: ModelCounts, baseline: ModelCounts) -> Iterator[str]:
    """Yield what programs that use the baseline would stumble over."""
    ours, theirs = candidate.interface, baseline.interface
    yield from _compared_ports("input", ours.inputs, theirs.inputs)
    yield from _compared_ports("output", ours.outputs, theirs.outputs)
    names = [port.name for port in theirs.outputs]
    if names != [port.name for port in ours.outputs] and set(names) == {port.name for port in ours.outputs}:
        yield "the outputs come in another order"


def _compared_ports(noun: str, ours: Sequence[Port], theirs: Sequence[Port]) -> Iterator[str]:
    """Compare ports of one name, and the others in their order."""
    known = {port.name: port for port in ours}
    unnamed = iter([port for port in ours if port.name not in {one.name for one in theirs}])
    for before in theirs:
        now = known.get(before.name) or next(unnamed, None)
        if now is None:
            yield f"{noun} {before.name!r} is missing"
            continue
        if now.name != before.name:
            yield f"{noun} {before.name!r} is called {now.name!r}"
        if now.kind and before.kind and now.kind != before.kind:
            yield f"{noun} {now.name!r} is {now.kind} in place of {before.kind}"
        elif not _fits(noun, now, before):
            yield f"{noun} {now.name!r} {_change(noun, now, before)}"
    yield from (f"{noun} {port.name!r} is new" for port in unnamed)


def _fits(noun: str, now: Port, before: Port) -> bool:
    """Whether programs that know one shape can work with the other; an input may also accept more."""
    if now.shape is None or before.shape is None:
        return True
    if len(now.shape) != len(before.shape):
        return False
    pairs = zip(now.shape, before.shape, strict=True)
    return all(size in (None, usual) or (noun == "output" and usual is None) for size, usual in pairs)


def _change(noun: str, now: Port, before: Port) -> str:
    if noun == "output" and now.shape and before.shape and len(now.shape) == len(before.shape) == 2:
        return f"has {now.shape[1]} classes in place of {before.shape[1]}"
    return f"has shape {_shown(now)} in place of {_shown(before)}"


def _shown(port: Port) -> str:
    assert port.shape is not None
    return "x".join("?" if size is None else str(size) for size in port.shape) or "()"
