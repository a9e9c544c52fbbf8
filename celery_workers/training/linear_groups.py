"""Find the linear layers that can be computed together, and try them: see ``fused_linears``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import nn

from celery_workers.training.fused_linears import JoinedWeights, LinearGroup, Member
from celery_workers.training.trying import Draws, agree

TRIED_TOKENS = 12


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A frozen linear layer, with or without an adapter. dropout: None without one, as such a layer goes with any."""

    layer: nn.Module
    base: nn.Linear
    adapter: str | None = None
    adapters: tuple[nn.Parameter, nn.Parameter] | None = None
    scaling: float = 0.0
    dropout: float | None = None


@dataclass(frozen=True)
class _Call:
    candidate: Candidate
    x: torch.Tensor
    version: int


def fuse_linears(model: nn.Module, run: Callable[[], torch.Tensor]) -> list[LinearGroup]:
    """Let linear layers with adapters compute together where they read the same tensor; return the groups.

    ``run`` computes logits of a few tokens with ``model``, which must be in evaluation mode. A group whose outputs or
    gradients differ from PEFT's is left alone, and all are if the logits then differ.
    """
    calls: list[_Call] = []
    candidates = list(_candidates(model))
    hooks = [candidate.layer.register_forward_pre_hook(_recorder(candidate, calls)) for candidate in candidates]
    try:
        before = run()
    finally:
        for hook in hooks:
            hook.remove()
    groups = [group for group in map(_join, _groups_of(calls)) if _agrees_with_peft(group)]
    for group in groups:
        group.install()
    try:
        agrees = agree([run()], [before], computed_in=before.dtype)
    except RuntimeError:  # the model's code wants its outputs laid out otherwise
        agrees = False
    if agrees:
        return groups
    for group in groups:
        group.remove()
    return []


def _candidates(model: nn.Module) -> Iterator[Candidate]:
    inner = {
        id(part) for layer in model.modules() if isinstance(layer, LoraLayer) for part in layer.modules() if part is not layer
    }
    uses = Counter(parameter.data_ptr() for _name, parameter in model.named_parameters(remove_duplicate=False))
    for module in model.modules():
        if id(module) in inner:
            continue
        candidate = _lora_candidate(module) if isinstance(module, LoraLinear) else _frozen_candidate(module)
        if candidate and uses[candidate.base.weight.data_ptr()] == 1:  # a tied weight must stay in its place
            yield candidate


def _frozen_candidate(module: nn.Module) -> Candidate | None:
    if type(module) is not nn.Linear or not _is_frozen(module):
        return None
    return Candidate(layer=module, base=module)


def _lora_candidate(layer: LoraLinear) -> Candidate | None:
    base, names = layer.base_layer, layer.active_adapters
    if type(layer) is not LoraLinear or type(base) is not nn.Linear or not _is_frozen(base) or len(names) != 1:
        return None
    name = names[0]
    if (
        name not in layer.lora_A
        or name in layer.lora_variant
        or layer.lora_bias[name]
        or layer.merged
        or layer.disable_adapters
    ):
        return None
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    if not (isinstance(down, nn.Parameter) and isinstance(up, nn.Parameter)):
        return None
    if not all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in (down, up)):
        return None
    dropout = layer.lora_dropout[name]
    if not isinstance(dropout, nn.Dropout | nn.Identity):
        return None
    return Candidate(
        layer=layer,
        base=base,
        adapter=name,
        adapters=(down, up),
        scaling=layer.scaling[name],
        dropout=dropout.p if isinstance(dropout, nn.Dropout) else 0.0,
    )


def _is_frozen(base: nn.Linear) -> bool:
    is_number = base.weight.dtype in (torch.float32, torch.bfloat16, torch.float16) and base.weight.device.type != "meta"
    return is_number and not any(parameter.requires_grad for parameter in base.parameters())


def _recorder(candidate: Candidate, calls: list[_Call]) -> Callable[[nn.Module, tuple[object, ...]], None]:
    def record(_layer: nn.Module, inputs: tuple[object, ...]) -> None:
        if len(inputs) == 1 and isinstance(inputs[0], torch.Tensor):
            calls.append(_Call(candidate, inputs[0], inputs[0]._version))

    return record


def _groups_of(calls: Sequence[_Call]) -> list[list[Candidate]]:
    """Return the layers called one after the other with the same tensor, at least one of them with an adapter."""
    times = Counter(id(call.candidate) for call in calls)
    found = []
    for _key, together in groupby(calls, key=lambda call: (id(call.x), call.version)):
        members = [call.candidate for call in together if times[id(call.candidate)] == 1]
        dropouts = {candidate.dropout for candidate in members if candidate.dropout is not None}
        kinds = {(candidate.base.weight.dtype, candidate.base.weight.device) for candidate in members}
        if len(dropouts) == 1 and len(kinds) == 1:
            found.append(members)
    return found


def _join(candidates: Sequence[Candidate]) -> LinearGroup:
    """Lay the layers' weights one below the other; each layer's own becomes a view of its rows."""
    members, ups = [], []
    output, rank = 0, 0
    for candidate in candidates:
        base, width = candidate.base, candidate.adapters[0].shape[0] if candidate.adapters else 0
        members.append(
            Member(
                layer=candidate.layer,
                base=base,
                outputs=slice(output, output + base.out_features),
                ranks=slice(rank, rank + width),
                scaling=candidate.scaling,
                adapter=candidate.adapter,
                adapters=candidate.adapters,
            )
        )
        ups.append(base.weight.new_zeros(base.out_features, width))
        output, rank = output + base.out_features, rank + width
    weight = candidates[0].base.weight.new_zeros(output + rank, candidates[0].base.in_features)
    bias = weight.new_zeros(output + rank) if any(member.base.bias is not None for member in members) else None
    for member in members:
        weight[member.outputs] = member.base.weight.data
        member.base.weight.data = weight[member.outputs]
        if bias is not None and member.base.bias is not None:
            bias[member.outputs] = member.base.bias.data
    dropout = max(candidate.dropout or 0.0 for candidate in candidates)
    return LinearGroup(JoinedWeights(members=tuple(members), weight=weight, bias=bias, ups=tuple(ups), dropout=dropout))


def _agrees_with_peft(group: LinearGroup) -> bool:
    """Compare outputs and gradients on random numbers; B, which is zero in a new adapter, is random for the while."""
    members = group.joined.members
    draws = Draws(group.joined.weight.device)
    dtype = group.joined.weight.dtype
    x = draws.normal(TRIED_TOKENS, group.joined.weight.shape[1], dtype=dtype).requires_grad_()
    gradients = [draws.normal(TRIED_TOKENS, member.base.out_features, dtype=dtype) for member in members]
    ups = [member.adapters[1] for member in members if member.adapters]
    kept = [up.detach().clone() for up in ups]
    try:
        for up in ups:
            up.data.copy_(draws.normal(*up.shape, dtype=up.dtype) / up.shape[1])
        plain = _outputs_and_gradients(members, x, gradients)
        group.install()
        fused = _outputs_and_gradients(members, x, gradients)
    finally:
        group.remove()
        for up, original in zip(ups, kept, strict=True):
            up.data.copy_(original)
    return agree(fused, plain, computed_in=dtype)


def _outputs_and_gradients(members: Sequence[Member], x: torch.Tensor, gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    with torch.enable_grad():
        outputs = [member.layer(x) for member in members]
        parameters = [parameter for member in members for parameter in member.adapters or ()]
        found = torch.autograd.grad(outputs, [x, *parameters], gradients)
    return [output.detach() for output in outputs] + list(found)
