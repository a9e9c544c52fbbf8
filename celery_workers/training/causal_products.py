"""Causal attention of joined rows as matrix products on the CPU, forward and backward.

What autograd would do with ``attention._plain``, without its waste: queries come in blocks, and a block multiplies only the
keys that it may see; softmax runs in the number type of the scores, whose sums torch keeps in float32; the way back to
tokens is a gather instead of additions into zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from celery_workers.training.attention import Segments

BLOCK = 128
"""Queries of a block: smaller blocks multiply less in vain, larger ones make longer products."""


@dataclass(frozen=True)
class _Block:
    """Queries [start, end) see keys [first, end); hidden (end - start, c) bool: those of the last c keys they do not see."""

    start: int
    end: int
    first: int
    hidden: torch.Tensor


class _Context(Protocol):
    segments: Segments
    window: int | None
    scale: float
    saved_tensors: tuple[torch.Tensor, ...]

    def save_for_backward(self, *tensors: torch.Tensor) -> None: ...


class CausalProducts(torch.autograd.Function):
    """query (T, H, D), key and value (T, K, D), segments, scale, window -> (T, H, D); H is a multiple of K."""

    @staticmethod
    def forward(  # noqa: PLR0917 (autograd's way)
        ctx: _Context,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        segments: Segments,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        ctx.segments, ctx.scale, ctx.window = segments, scale, window
        key_heads = key.shape[1]
        attended = query.new_empty(sum(group.padded.numel() for group in segments.groups), query.shape[1], value.shape[2])
        saved, offset = [], 0
        for group in segments.groups:
            rows, length = group.padded.shape
            queries, keys, values = (_gather(states, group.padded, key_heads) for states in (query * scale, key, value))
            saved += [queries, keys, values]
            places = _by_head(attended[offset : offset + rows * length], rows, key_heads)
            offset += rows * length
            for block in _blocks(length, window, query.device):
                weights = _weights(queries, keys, block)
                saved.append(weights)
                seen = values[:, 0, block.first : block.end]
                places[:, :, :, block.start : block.end] = torch.bmm(weights, seen).view_as(
                    places[:, :, :, block.start : block.end]
                )
        ctx.save_for_backward(*saved)
        return attended.index_select(0, segments.back)

    @staticmethod
    def backward(ctx: _Context, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        segments, saved = ctx.segments, iter(ctx.saved_tensors)
        total = sum(group.padded.numel() for group in segments.groups)
        # repeated tokens beyond a row's end give nothing back
        of_attended = gradient.new_zeros(total, *gradient.shape[1:]).index_copy_(0, segments.back, gradient)
        parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        offset = 0
        for group in segments.groups:
            rows, length = group.padded.shape
            queries, keys, values = next(saved), next(saved), next(saved)
            blocks = [(block, next(saved)) for block in _blocks(length, ctx.window, gradient.device)]
            key_heads = keys.shape[0] // rows
            outputs = _by_head(of_attended[offset : offset + rows * length], rows, key_heads)
            offset += rows * length
            of_queries, of_keys, of_values = _group_backward(queries, keys, values, outputs, blocks)
            parts.append((_by_token(of_queries, rows), _by_token(of_keys, rows), _by_token(of_values, rows)))
        of_query, of_key, of_value = (torch.cat(states).index_select(0, segments.back) for states in zip(*parts, strict=True))
        return of_query.mul_(ctx.scale), of_key, of_value, None, None, None


def _group_backward(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    outputs: torch.Tensor,
    blocks: list[tuple[_Block, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    of_queries, of_keys, of_values = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
    for block, weights in blocks:
        seen = slice(block.first, block.end)
        of_block = outputs[:, :, :, block.start : block.end].reshape(weights.shape[0], weights.shape[1], -1)
        of_values[:, 0, seen].baddbmm_(weights.transpose(1, 2), of_block)
        of_weights = torch.bmm(of_block, values[:, 0, seen].transpose(1, 2))
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        part = queries[:, :, block.start : block.end]
        of_queries[:, :, block.start : block.end] = torch.bmm(of_scores, keys[:, 0, seen]).view_as(part)
        of_keys[:, 0, seen].baddbmm_(of_scores.transpose(1, 2), part.flatten(1, 2))
    return of_queries, of_keys, of_values


def _weights(queries: torch.Tensor, keys: torch.Tensor, block: _Block) -> torch.Tensor:
    """Return (N x K, G x block, seen), the weights of the block's keys, which sum to 1."""
    part = queries[:, :, block.start : block.end].flatten(1, 2)
    scores = torch.bmm(part, keys[:, 0, block.first : block.end].transpose(1, 2))
    shaped = scores.view(scores.shape[0], queries.shape[1], block.end - block.start, block.end - block.first)
    shaped[..., -block.hidden.shape[1] :].masked_fill_(block.hidden, float("-inf"))
    return torch.softmax(scores, dim=-1)


@lru_cache(maxsize=256)  # every layer asks for the same ones
def _blocks(length: int, window: int | None, device: torch.device) -> tuple[_Block, ...]:
    blocks = []
    for start in range(0, length, BLOCK):
        end = min(start + BLOCK, length)
        first = 0 if window is None else max(0, start - window + 1)
        looked_at = torch.arange(start if window is None else first, end, device=device)
        back = torch.arange(start, end, device=device)[:, None] - looked_at
        blocks.append(_Block(start, end, first, (back < 0) | (back >= (window or length))))
    return tuple(blocks)


def _gather(states: torch.Tensor, padded: torch.Tensor, key_heads: int) -> torch.Tensor:
    """Return a group's rows: (T, H, D) -> (N x K, H / K, L, D)."""
    picked = states.index_select(0, padded.flatten())
    return _by_head(picked, padded.shape[0], key_heads).reshape(
        padded.shape[0] * key_heads, -1, padded.shape[1], states.shape[2]
    )


def _by_head(tokens: torch.Tensor, rows: int, key_heads: int) -> torch.Tensor:
    """Return a view: (N x L, H, D) -> (N, K, H / K, L, D)."""
    return tokens.unflatten(0, (rows, -1)).unflatten(2, (key_heads, -1)).permute(0, 2, 3, 1, 4)


def _by_token(states: torch.Tensor, rows: int) -> torch.Tensor:
    """Return (N x K, H / K, L, D) -> (N x L, H, D)."""
    return states.unflatten(0, (rows, -1)).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)
