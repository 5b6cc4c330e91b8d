"""Attention as one operator, rotary embeddings, and linear attention."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from aznas_onnx.convert.attributes import integer, number, text
from aznas_onnx.convert.context import Call, Context, unsupported
from aznas_onnx.graph.ir.graph import Node

Tensor = torch.Tensor


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, length, heads * size) to (batch, heads, length, size); four axes are left as they are."""
    return x if x.dim() == 4 else x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _repeat_heads(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def attention(node: Node, context: Context) -> Call:
    names = [node.input(index) for index in range(7)]
    plain = (
        not any(names[3:])
        and not any(context.is_read(name) for name in node.outputs[1:])
        and not number(node, "softcap", 0.0)
        and max(integer(node, "left_window_size", -1), integer(node, "right_window_size", -1)) < 0
    )
    return Call(_fused(node) if plain else _Attention(node), tuple(names[:3] if plain else names))


def _fused(node: Node) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return torch's fused attention, for the usual case: no mask but the causal one, no cache."""
    q_heads, kv_heads = integer(node, "q_num_heads", 0), integer(node, "kv_num_heads", 0)
    causal = bool(integer(node, "is_causal", 0))
    scale = number(node, "scale", 0.0) or None

    def run(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        packed = query.dim() == 3
        query = _split_heads(query, q_heads)
        key = _repeat_heads(_split_heads(key, kv_heads), query.shape[1])
        value = _repeat_heads(_split_heads(value, kv_heads), query.shape[1])
        result = F.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scale)
        return result.transpose(1, 2).flatten(2) if packed else result

    return run


class _Attention:
    """Attention with every option of the operator.

    All masks are added up to one bias: the causal frontier and the window, the mask input, and the padding.
    """

    def __init__(self, node: Node) -> None:
        self.q_heads, self.kv_heads = integer(node, "q_num_heads", 0), integer(node, "kv_num_heads", 0)
        self.causal = bool(integer(node, "is_causal", 0))
        self.scale = number(node, "scale", 0.0)
        self.softcap = number(node, "softcap", 0.0)
        self.left = integer(node, "left_window_size", -1)
        self.right = integer(node, "right_window_size", -1)
        self.output_mode = integer(node, "qk_matmul_output_mode", 0)

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        past_key: Tensor | None,
        past_value: Tensor | None,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        packed = query.dim() == 3
        query = _split_heads(query, self.q_heads)
        key, value = _split_heads(key, self.kv_heads), _split_heads(value, self.kv_heads)
        past = 0 if past_key is None else past_key.shape[2]
        key = key if past_key is None else torch.cat((past_key, key), dim=2)
        value = value if past_value is None else torch.cat((past_value, value), dim=2)
        bias = self._bias(query, key.shape[2], mask, past, lengths)
        scale = math.sqrt(self.scale or 1 / math.sqrt(query.shape[-1]))
        keys = _repeat_heads(key, query.shape[1])
        raw = (query * scale) @ (keys * scale).transpose(-1, -2)
        scores = self.softcap * torch.tanh(raw / self.softcap) if self.softcap else raw
        biased = scores if bias is None else scores + bias
        if bias is None:
            weights = torch.softmax(biased, dim=-1)
        else:  # a query without keys gives zeros, not NaN, in the gradient too
            blind = torch.isneginf(bias.amax(-1, keepdim=True))
            weights = torch.softmax(biased.masked_fill(blind, 0.0), dim=-1).masked_fill(blind, 0.0)
        result = weights @ _repeat_heads(value, query.shape[1])
        shown = (raw, scores, biased, weights)[self.output_mode]
        return (result.transpose(1, 2).flatten(2) if packed else result), key, value, shown

    def _bias(self, query: Tensor, keys: int, mask: Tensor | None, past: int, lengths: Tensor | None) -> Tensor | None:
        allowed = self._allowed(query, keys, past, lengths)
        bias = None
        if mask is not None:
            if mask.shape[-1] < keys:
                fill = False if mask.dtype == torch.bool else -math.inf
                mask = F.pad(mask, (0, keys - mask.shape[-1]), value=fill)
            bias = _as_bias(mask, query.dtype) if mask.dtype == torch.bool else mask
        if allowed is not None:
            extra = _as_bias(allowed, query.dtype)
            bias = extra if bias is None else bias + extra
        return bias

    def _allowed(self, query: Tensor, keys: int, past: int, lengths: Tensor | None) -> Tensor | None:
        """Return the keys that each query can attend to by position; None where all."""
        positions = torch.arange(keys, device=query.device)
        allowed = None if lengths is None else (positions < lengths[:, None])[:, None, None, :]
        if not (self.causal or self.left >= 0 or self.right >= 0):
            return allowed
        steps = torch.arange(query.shape[2], device=query.device)[:, None]
        # The valid keys before this block of queries: the cache, or the part of an external one that is not padding.
        own = steps + past if lengths is None else steps + (lengths.reshape(-1, 1, 1, 1) - query.shape[2])
        ahead = positions - own
        bounds = [0 if self.causal else None, self.right if self.right >= 0 else None]
        for bound in bounds:
            if bound is not None:
                allowed = ahead <= bound if allowed is None else allowed & (ahead <= bound)
        if self.left >= 0:
            allowed = -ahead <= self.left if allowed is None else allowed & (-ahead <= self.left)
        return allowed


def _as_bias(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, -math.inf)


def rotary_embedding(node: Node, context: Context) -> Call:
    interleaved = bool(integer(node, "interleaved", 0))
    rotated_size, heads = integer(node, "rotary_embedding_dim", 0), integer(node, "num_heads", 0)

    def run(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
        packed = x.dim() == 3
        x = _split_heads(x, heads)
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)  # the same for every head
        size = rotated_size or x.shape[-1]
        turning, rest = x[..., :size], x[..., size:]
        if interleaved:
            first, second = turning[..., 0::2], turning[..., 1::2]
        else:
            first, second = turning.chunk(2, dim=-1)
        real, imaginary = cos * first - sin * second, sin * first + cos * second
        if interleaved:
            turned = torch.stack((real, imaginary), dim=-1).flatten(-2)
        else:
            turned = torch.cat((real, imaginary), dim=-1)
        result = torch.cat((turned, rest), dim=-1)
        return result.transpose(1, 2).flatten(2) if packed else result

    return Call(run, node.inputs)


def linear_attention(node: Node, context: Context) -> Call:
    """One step of the recurrence a token; the state is (batch, key heads, key size, value size)."""
    q_heads, kv_heads = integer(node, "q_num_heads", 1), integer(node, "kv_num_heads", 1)
    rule = text(node, "update_rule", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise unsupported(node, f"has update rule {rule!r}", "linear, gated, delta and gated_delta are supported")
    given_scale = number(node, "scale", 0.0)

    def run(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        state: Tensor | None = None,
        decay: Tensor | None = None,
        beta: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        queries = _split_heads(query, q_heads)
        keys, values = _split_heads(key, kv_heads), _split_heads(value, kv_heads)
        decays = None if decay is None else _split_heads(decay, kv_heads).exp().unsqueeze(-1)
        betas = None if beta is None else beta.transpose(1, 2).unsqueeze(-1)
        if state is None:
            state = keys.new_zeros(keys.shape[0], kv_heads, keys.shape[-1], values.shape[-1])
        scale = given_scale or 1 / math.sqrt(queries.shape[-1])
        outputs = []
        for step in range(keys.shape[2]):
            k, v = keys[:, :, step, :, None], values[:, :, step]
            state = state if decays is None else state * decays[:, :, step]
            v = v if betas is None else betas[:, :, step] * (v - (state * k).sum(-2))
            state = state + k * v.unsqueeze(-2)
            outputs.append((_repeat_heads(state, q_heads) * queries[:, :, step, :, None]).sum(-2) * scale)
        return torch.stack(outputs, dim=2).transpose(1, 2).flatten(2), state

    return Call(run, node.inputs)
