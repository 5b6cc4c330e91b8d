"""The type of a rewrite, and how a list of rewrites is applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from aznas_onnx.graph.ir.graph import Node
from aznas_onnx.graph.ir.near_miss import NearMiss
from aznas_onnx.graph.rewrite.editor import Editor

__all__ = ["Attempt", "Declined", "Rewrite", "apply", "counted", "ending_at", "expanding", "plural"]


Declined: TypeAlias = NearMiss | str | None
"""The reason of a rewrite that changed nothing: a string where a node is not of its pattern; None if it was applied."""

Attempt: TypeAlias = Callable[[Editor, Node], Declined]
"""Applies a rewrite whose pattern starts at the given node, or changes nothing and returns the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One rewrite.

    - `operators`: Operators of the last node of the pattern; other nodes are skipped.
    - `attempt`: Applies the rewrite to one such node, or returns why not.
    - `result`: Name of the recognised pattern for the user ("Gelu"); empty for tidying.
    """

    operators: tuple[str, ...]
    attempt: Attempt
    result: str = ""

    def __call__(self, editor: Editor, node: Node) -> Declined:
        """Attempt the rewrite."""
        return self.attempt(editor, node)


def ending_at(*operators: str, result: str = "") -> Callable[[Attempt], Rewrite]:
    """Make a rewrite of the decorated attempt, whose pattern ends at a node of these operators."""
    return lambda attempt: Rewrite(operators=operators, attempt=attempt, result=result)


def expanding(*operators: str) -> Callable[[Attempt], tuple[Rewrite, ...]]:
    """Make rewrites of the decorated attempt, which writes each of these operators as others.

    They decline nodes on which the attempt fails: ONNX's checker has no schema for most of these operators.
    """

    def rewrites(attempt: Attempt) -> tuple[Rewrite, ...]:
        def checked(editor: Editor, node: Node) -> Declined:
            try:
                return attempt(editor, node)
            except (IndexError, KeyError, TypeError, ValueError):
                return "its inputs or attributes are not those of the operator"

        return tuple(
            Rewrite(operators=(operator,), attempt=checked, result=operator.rpartition("::")[2])
            for operator in operators
        )

    return rewrites


def apply(editor: Editor, rewrites: Sequence[Rewrite], misses: dict[NearMiss, None] | None = None) -> Counter[str]:
    """Apply rewrites in their order, each to all nodes it can fit; return how often each result was made.

    Near misses are added to `misses`, in order.
    """
    made: Counter[str] = Counter()
    for rewrite in rewrites:
        if not editor.has(*rewrite.operators):
            continue
        for node in editor.nodes(*rewrite.operators):
            declined = rewrite.attempt(editor, node)
            if declined is None:
                made[rewrite.result] += 1
            elif misses is not None and isinstance(declined, NearMiss):
                pattern = declined.pattern or rewrite.result
                misses[replace(declined, pattern=pattern, node=node.name)] = None
    return made


def counted(made: Iterable[tuple[str, int]]) -> str:
    """Return counts in words: ``12 Gelu and 25 LayerNormalization``."""
    parts = [f"{count} {name}" for name, count in made if name and count]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def plural(count: int, noun: str) -> str:
    """Return a count and its noun: ``1 tensor``, ``2 tensors``, ``2 zero biases``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{ending}"
