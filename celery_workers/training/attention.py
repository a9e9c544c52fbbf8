"""Attention that keeps the rows of a joined batch apart, given to a model without touching its code.

Rows joined end to end spare the linear layers all padding, but attention must stay within each row. ``join_rows``
registers ``segment_attention`` with transformers' ``AttentionInterface`` and then *tries* it: two rows joined must give the
logits that each gives alone. A model that fails the try (recurrent layers, attention of its own) trains row by row.

Attention gathers rows of similar length into right-padded groups. Causal attention never looks to the right, so padding
on the right is never seen and needs no mask. On the CPU ``CausalProducts`` computes it, forward and backward; what that cannot
do (capped scores, dropout, very long rows) goes through autograd or torch's own attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from transformers import AttentionInterface, PreTrainedModel

from celery_workers.contract.errors import BugError
from celery_workers.modeling.loading import vocabulary_size_of
from celery_workers.training.causal_products import CausalProducts

ATTENTION = "truetune_segments"
GROUP_SHORTEST = 0.7
"""The shortest row of a group has at least this share of the longest one's tokens."""
PRODUCTS_LONGEST = 2048
"""Up to this many tokens in its longest row, attention of a joined batch is computed by ``CausalProducts`` on the CPU."""
PLAIN_LONGEST = 512
"""On the CPU, up to this many tokens two matrix products are faster than flash attention; beyond, they need L x L memory."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of similar length within a joined row of T tokens. padded (N, L) int64: the token at each place; places after
    a row's end repeat its last token."""

    padded: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Where each row of a joined row lies. back (T,) int64: the place of each token in the groups' padded tokens, laid
    one after the other."""

    lengths: tuple[int, ...]
    groups: tuple[Group, ...]
    back: torch.Tensor


def build_segments(lengths: Sequence[int], device: torch.device) -> Segments:
    """Group rows of these lengths, which lie end to end, by similar length."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    back = np.empty(sum(lengths), dtype=np.int64)
    groups: list[Group] = []
    offset = 0
    for members in _similar(lengths):
        longest = lengths[members[0]]
        places = np.arange(longest)
        padded = np.stack([starts[member] + np.minimum(places, lengths[member] - 1) for member in members])
        for number, member in enumerate(members):
            start, length = starts[member], lengths[member]
            back[start : start + length] = offset + number * longest + np.arange(length)
        offset += padded.size
        groups.append(Group(padded=torch.from_numpy(padded).to(device)))
    return Segments(lengths=tuple(lengths), groups=tuple(groups), back=torch.from_numpy(back).to(device))


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if groups and lengths[index] >= GROUP_SHORTEST * lengths[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Segments | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each row. query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D).

    Raises: NotImplementedError: the model asks for what this function does not do; ``join_rows`` finds out beforehand.
    """
    unknown = [name for name in ("s_aux", "position_bias") if others.get(name) is not None]
    if segments is None or attention_mask is not None or unknown or not getattr(module, "is_causal", True):
        raise NotImplementedError(f"attention over joined rows got no rows, a mask, {unknown} or a module that is not causal")
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    longest = max(group.padded.shape[1] for group in segments.groups)
    if query.device.type == "cpu" and longest <= PRODUCTS_LONGEST and softcap is None and not dropout:
        states = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        return CausalProducts.apply(*states, segments, scale, sliding_window).unsqueeze(0), None
    parts = []
    for group in segments.groups:
        rows = [_gather(states, group.padded) for states in (query, key, value)]
        use_plain = softcap is not None or (query.device.type == "cpu" and group.padded.shape[1] <= PLAIN_LONGEST)
        attended = (
            _plain(*rows, scale=scale, window=sliding_window, softcap=softcap, dropout=dropout)
            if use_plain
            else _fused(*rows, scale=scale, window=sliding_window, dropout=dropout)
        )  # (N, H, L, D)
        parts.append(attended.transpose(1, 2).flatten(0, 1))  # (N x L, H, D)
    return torch.cat(parts).index_select(0, segments.back).unsqueeze(0), None


def _gather(states: torch.Tensor, padded: torch.Tensor) -> torch.Tensor:
    """Return the group's rows: (1, heads, T, D) -> (N, heads, L, D)."""
    picked = states[0].index_select(1, padded.flatten())
    return picked.unflatten(1, padded.shape).transpose(0, 1)


def _plain(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> torch.Tensor:
    rows, heads, length, width = query.shape
    key_heads = key.shape[1]
    query = query.reshape(
        rows * key_heads, heads // key_heads * length, width
    )  # the heads that share a key, one below the other
    key, value = (states.reshape(rows * key_heads, length, -1) for states in (key, value))
    scores = torch.bmm(query, key.transpose(1, 2)) * scale  # (N x K, H/K x L, L)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    seen = _seen(length, window, query.device).repeat(heads // key_heads, 1)
    weights = torch.softmax(scores.float().masked_fill(~seen, float("-inf")), dim=-1).to(value.dtype)
    weights = F.dropout(weights, p=dropout, training=dropout > 0)
    return torch.bmm(weights, value).view(rows, heads, length, -1)


def _fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float, window: int | None, dropout: float
) -> torch.Tensor:
    length = query.shape[2]
    mask = _seen(length, window, query.device) if window is not None and window < length else None
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        dropout_p=dropout,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _seen(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Return (L, L) bool: whether the query of that row sees the key of that column."""
    places = torch.arange(length, device=device)
    back = places[:, None] - places[None, :]
    return (back >= 0) & (back < (window or length))


def join_rows(model: PreTrainedModel) -> bool:
    """Give ``model`` the attention for joined rows, if it then keeps rows apart; else leave it as it was.

    Tries it in evaluation mode, on two rows of random tokens; draws nothing from torch's global generators.
    """
    original = model.config._attn_implementation
    if original == ATTENTION:
        return True
    AttentionInterface.register(ATTENTION, segment_attention)
    try:
        rows = _random_rows(model)
        alone = torch.cat([_logits(model, row, None) for row in rows])
        model.set_attn_implementation(ATTENTION)
        segments = build_segments([len(row) for row in rows], model.device)
        joined = _logits(model, torch.cat(rows), segments)
    except (NotImplementedError, ValueError, TypeError):
        keeps_apart = False
    else:
        # bfloat16 rounds at 2^-8 per operation; a row that sees its neighbour differs by far more
        tolerance = 0.03 if alone.dtype == torch.bfloat16 else 1e-3
        keeps_apart = bool((joined - alone).float().norm() <= tolerance * alone.float().norm())
    if not keeps_apart:
        model.set_attn_implementation(original)
    return keeps_apart


def _random_rows(model: PreTrainedModel) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    vocabulary_size = vocabulary_size_of(model)
    return [torch.randint(vocabulary_size, (length,), generator=generator).to(model.device) for length in (7, 11)]


@torch.no_grad()
def _logits(model: PreTrainedModel, tokens: torch.Tensor, segments: Segments | None) -> torch.Tensor:
    if model.training:
        raise BugError("rows are tried in evaluation mode only")
    if segments is None:
        places, joining = torch.arange(len(tokens), device=tokens.device), {}
    else:
        places = torch.cat([torch.arange(length, device=tokens.device) for length in segments.lengths])
        joining = {"segments": segments}
    return model(input_ids=tokens[None], position_ids=places[None], use_cache=False, **joining).logits[0]
