"""Products with tables of relative positions, by groups of keys.

AutoFormer's attention multiplies every query with an embedding of its distance to every key, ``q[l] . table[l, t]``,
and the attention weights with such a table again. Written out, both cost as much as the attention itself, token by
token, in a memory order that has to be undone. But the embedding is a sum of rows of small tables, one for the vertical
and one for the horizontal distance, and for a given query all keys of one row of patches are at one vertical distance::

    table[l, t]         = sum over the groups g that t is in of by_group[l, g]        197 keys, 30 groups
    q[l] . table[l, t]  = (q[l] by_group[l]^T) members[t]^T

so that groups are further columns of queries, keys and values, and the sums come with the products of attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["GroupedLookUp", "MixWithPositions", "ScoresWithPositions", "with_members"]

Tensor = torch.Tensor
Array = npt.NDArray[Any]

_LEAST_KEYS_A_GROUP = 2
_MULTIPLE = 16  # products with as many columns are up to twice as fast as with one fewer


@dataclass(frozen=True, slots=True, eq=False)
class GroupedLookUp:
    """For every pair of a query and a key a sum of rows of tables, one from each, looked up by groups of keys.

    - `rows`: Integers, (queries, groups): the row of the joined tables, for each query and group of keys. The last
      groups are there to fill up: theirs is the row behind the last, which is zero.
    - `members`: Floats, (keys, groups): 1 where a key is in a group, of which it is in one for each table.
    """

    rows: Tensor
    members: Tensor

    @classmethod
    def of(cls, indices: Sequence[Array], table_rows: Sequence[int], device: torch.device) -> GroupedLookUp | None:
        """Find the groups; None where they are so many that the look-ups themselves are as cheap.

        - `indices`: For each table, the row for every pair: integers, (queries, keys), negative ones counted from the
          end.
        - `table_rows`: How many rows each table has.
        - `device`: Where the tables are.
        """
        queries, keys = indices[0].shape
        groups = [_groups(index) for index in indices]
        counts = [int(group.max()) + 1 for group in groups]
        width = math.ceil(sum(counts) / _MULTIPLE) * _MULTIPLE
        if width * _LEAST_KEYS_A_GROUP > keys:
            return None
        rows = np.full((queries, width), sum(table_rows))
        members = np.zeros((keys, width), np.float32)
        first, offset = 0, 0
        for index, group, count, size in zip(indices, groups, counts, table_rows, strict=True):
            _, representatives = np.unique(group, return_index=True)
            chosen = index[:, representatives].astype(np.int64)
            rows[:, first : first + count] = np.where(chosen < 0, chosen + size, chosen) + offset
            members[np.arange(keys), first + group] = 1.0
            first, offset = first + count, offset + size
        return cls(torch.from_numpy(rows).to(device), torch.from_numpy(members).to(device))

    def by_group(self, tables: Sequence[Tensor]) -> Tensor:
        """Return the embedding of each query and group of keys, (queries, groups, width)."""
        joined = torch.cat([*tables, tables[0].new_zeros(1, tables[0].shape[1])])
        return joined.index_select(0, self.rows.flatten()).view(*self.rows.shape, -1)


def _groups(index: Array) -> Array:
    """Return the group of each key: those for which all queries have the same rows are in one."""
    found: dict[bytes, int] = {}
    return np.array([found.setdefault(column.tobytes(), len(found)) for column in index.T])


class ScoresWithPositions:
    """Attention scores: the function of a step of ``(queries, keys, *tables)``.

    With queries of (..., queries, width) and keys of (..., width, keys), both times `scale`, the scores of
    (..., queries, keys) are ``scale * (queries keys + position_scale * queries table^T)``.
    """

    def __init__(self, look_up: GroupedLookUp, *, scale: float, position_scale: float) -> None:
        self.members = look_up.members
        self._look_up = look_up
        self._scale = scale
        self._position_scale = position_scale

    def __call__(self, queries: Tensor, keys: Tensor, *tables: Tensor) -> Tensor:
        """Return the scores."""
        tall = with_members(keys.transpose(-1, -2), self.members)
        return torch.matmul(self.widened(queries, *tables), tall.transpose(-1, -2))

    def widened(self, queries: Tensor, *tables: Tensor) -> Tensor:
        """Return the queries, scaled, with a column for each group of keys."""
        by_group = self._look_up.by_group(tables)
        wide: Tensor = _Widened.apply(queries, by_group, self._scale, self._position_scale)
        return wide


class MixWithPositions:
    """Attention's sums over the keys: the function of a step of ``(weights, values, *tables)``.

    With weights of (..., queries, keys) and values of (..., keys, width) these are the sums of the values, of
    (..., queries, width), and those of the tables, query by query, of (queries, samples and heads, width).
    """

    def __init__(self, look_up: GroupedLookUp) -> None:
        self.members = look_up.members
        self._look_up = look_up

    def __call__(self, weights: Tensor, values: Tensor, *tables: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sums."""
        return self.narrowed(torch.matmul(weights, with_members(values, self.members)), *tables)

    def narrowed(self, wide: Tensor, *tables: Tensor) -> tuple[Tensor, Tensor]:
        """Return both sums, given those of the values and of the weights of each group."""
        sums: tuple[Tensor, Tensor] = _Narrowed.apply(wide, self._look_up.by_group(tables))
        return sums


class _Widened(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, by_group: Tensor, scale: float, position_scale: float) -> Tensor:
        width = queries.shape[-1]
        wide = queries.new_empty(*queries.shape[:-1], width + by_group.shape[1])
        torch.mul(queries, scale, out=wide[..., :width])
        by_query = torch.bmm(_by_query(wide[..., :width]), by_group.transpose(1, 2))
        torch.mul(_by_head(by_query, wide), position_scale, out=wide[..., width:])
        ctx.save_for_backward(wide, by_group)
        ctx.scale, ctx.position_scale = scale, position_scale
        return wide

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wide, by_group = ctx.saved_tensors
        width = by_group.shape[-1]
        by_sums = _by_query(gradient[..., width:] * ctx.position_scale)
        by_queries = gradient[..., :width] + _by_head(torch.bmm(by_sums, by_group), wide)
        by_table = None
        if ctx.needs_input_grad[1]:
            by_table = torch.bmm(by_sums.transpose(1, 2), _by_query(wide[..., :width]))
        return by_queries.mul_(ctx.scale), by_table, None, None


class _Narrowed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, wide: Tensor, by_group: Tensor) -> tuple[Tensor, Tensor]:
        width = by_group.shape[-1]
        shares = _by_query(wide[..., width:])
        ctx.save_for_backward(by_group, shares)
        samples, heads, queries, _ = wide.shape
        # In the memory order of the tokens, in which the heads are joined; no view, so that it can be overwritten.
        strides = (queries * heads * width, width, heads * width, 1)
        mixed = torch.empty_strided((samples, heads, queries, width), strides, dtype=wide.dtype, device=wide.device)
        return mixed.copy_(wide[..., :width]), torch.bmm(shares, by_group)

    @staticmethod
    def backward(ctx: Any, by_mixed: Tensor, by_shift: Tensor) -> tuple[Tensor | None, ...]:
        by_group, shares = ctx.saved_tensors
        groups, width = by_group.shape[1:]
        wide = by_mixed.new_empty(*by_mixed.shape[:-1], width + groups)
        wide[..., :width] = by_mixed
        wide[..., width:] = _by_head(torch.bmm(by_shift, by_group.transpose(1, 2)), wide)
        by_table = torch.bmm(shares.transpose(1, 2), by_shift) if ctx.needs_input_grad[1] else None
        return wide, by_table


def with_members(x: Tensor, members: Tensor) -> Tensor:
    """Return keys or values, (..., keys, width), with a column for each group of keys."""
    return torch.cat((x, members.to(x.dtype).expand(*x.shape[:-1], -1)), dim=-1)


def _by_query(x: Tensor) -> Tensor:
    """Return (samples, heads, queries, width) as (queries, samples and heads, width)."""
    return x.movedim(-2, 0).reshape(x.shape[-2], -1, x.shape[-1])


def _by_head(x: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`_by_query` for a tensor whose leading axes are those of `like`."""
    return x.view(len(x), *like.shape[:-2], -1).movedim(0, -2)
