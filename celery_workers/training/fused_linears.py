"""Linear layers with LoRA adapters, computed together: fewer and larger products, no casts, inputs saved once.

PEFT computes ``x W' + s (x A') B'`` (a prime transposes) layer by layer with up to eight products a step, casts the float32
adapters anew each time and keeps an input per layer. Layers that read the same tensor, like query, key and value, share
here one joined weight ``[W1; W2; ...; A1; A2; ...]``:

    forward    [x W1' | x W2' | ... | x A1' | x A2' | ...] in one product, then ``s (x A') B'`` is added in place
    backward   with P = s g B beside the gradients g, dx = [g1 | g2 | ... | P1 | P2 | ...] [W; A] in one product

Frozen weights get no gradient; ``W`` stays where it is found, as a view of the joined weight, so evaluation, generation
and merging see what they always saw. Gradients of adapters are summed in their own float32.

``fuse_linears`` finds out by a try run which layers read the same tensor, and checks outputs and gradients against PEFT's.
Whatever is not a plain LoRA adapter on a frozen linear layer (4 bits, DoRA, trained bias, tied weights) stays PEFT's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from celery_workers.training.dropout import draw_dropped


@dataclass(frozen=True, kw_only=True)
class Member:
    """One layer of a group: k inputs, n outputs, rank r (0: a frozen layer without an adapter).

    outputs: its n rows of the joined weight; ranks: the r rows with its A, counted from the first A.
    """

    layer: nn.Module
    base: nn.Linear
    outputs: slice
    ranks: slice
    scaling: float
    adapter: str | None
    adapters: tuple[nn.Parameter, nn.Parameter] | None
    """A (r, k) and B (n, r), float32."""


@dataclass(frozen=True, kw_only=True)
class JoinedWeights:
    """What the products read, in the base's number type.

    weight (n1 + n2 + ... + R, k): all W, then all A, R their summed ranks; bias (n1 + n2 + ... + R,) or None;
    ups: each member's B (n, r).
    """

    members: tuple[Member, ...]
    weight: torch.Tensor
    bias: torch.Tensor | None
    ups: tuple[torch.Tensor, ...]
    dropout: float

    @property
    def width(self) -> int:
        """The outputs of all members."""
        return self.members[-1].outputs.stop


class _Context(Protocol):
    """What autograd keeps between forward and backward."""

    joined: JoinedWeights
    dropout: float
    saved_tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: torch.Tensor | None) -> None: ...


class _LoraProducts(torch.autograd.Function):
    """x (T, k), A and B of each member with an adapter -> the members' outputs (T, n), views of one tensor."""

    @staticmethod
    def forward(
        ctx: _Context, x: torch.Tensor, joined: JoinedWeights, dropout: float, *_adapters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        width, dropped = joined.width, None
        if dropout:
            products = F.linear(x, joined.weight[:width], None if joined.bias is None else joined.bias[:width])
            dropped = draw_dropped((x.shape[0], x.shape[1]), dropout, x.device)
            x = x.masked_fill(dropped, 0)  # what the adapters read; what the base read is not needed again
            downs = F.linear(x, joined.weight[width:])
        else:
            products = F.linear(x, joined.weight, joined.bias)
            downs = products[:, width:].contiguous()  # a view would keep all products alive
        for member, up in zip(joined.members, joined.ups, strict=True):
            products[:, member.outputs].addmm_(downs[:, member.ranks], up.t(), alpha=member.scaling / (1 - dropout))
        ctx.joined, ctx.dropout = joined, dropout
        ctx.save_for_backward(x, downs, dropped)
        return tuple(products[:, member.outputs] for member in joined.members)

    @staticmethod
    def backward(ctx: _Context, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        joined, (x, downs, dropped) = ctx.joined, ctx.saved_tensors
        products = x.new_empty(x.shape[0], joined.weight.shape[0])  # [g1 | g2 | ... | P1 | P2 | ...]
        through_ups = products[:, joined.width :]
        of_ups = []
        for member, up, gradient in zip(joined.members, joined.ups, gradients, strict=True):
            scale = member.scaling / (1 - ctx.dropout)
            of_outputs = products[:, member.outputs].copy_(gradient)
            through_ups[:, member.ranks] = torch.mm(of_outputs, up).mul_(scale)
            of_ups.append(torch.mm(of_outputs.t(), downs[:, member.ranks]).mul_(scale))
        of_downs = torch.mm(through_ups.t(), x)
        of_adapters = [
            part.float()
            for member, of_up in zip(joined.members, of_ups, strict=True)
            if member.adapters
            for part in (of_downs[member.ranks], of_up)
        ]
        of_x = _input_gradient(products, joined, dropped) if ctx.needs_input_grad[0] else None
        return of_x, None, None, *of_adapters


def _input_gradient(products: torch.Tensor, joined: JoinedWeights, dropped: torch.Tensor | None) -> torch.Tensor:
    if dropped is None:
        return torch.mm(products, joined.weight)
    width = joined.width
    through_adapters = torch.mm(products[:, width:], joined.weight[width:]).masked_fill_(dropped, 0)
    return through_adapters.addmm_(products[:, :width], joined.weight[:width])


@dataclass(kw_only=True)
class _Held:
    """Outputs computed with the first member's, until the others ask for theirs."""

    x: torch.Tensor
    state: tuple[int, bool, bool]
    outputs: dict[int, torch.Tensor]


class LinearGroup:
    """Layers that read the same tensor: the first one called computes the outputs of all."""

    def __init__(self, joined: JoinedWeights) -> None:
        self.joined = joined
        self._held: _Held | None = None

    def install(self) -> None:
        """Let every layer compute through the group."""
        for place, member in enumerate(self.joined.members):
            member.layer.forward = partial(self._forward, place)

    def remove(self) -> None:
        """Give every layer its own ``forward`` back; weights stay where they are."""
        self._held = None
        for member in self.joined.members:
            member.layer.__dict__.pop("forward", None)

    def _forward(self, place: int, x: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        layer = self.joined.members[place].layer
        if args or kwargs or x.is_inference() or not all(map(self._is_plain, self.joined.members)):
            return type(layer).forward(layer, x, *args, **kwargs)
        state = (x._version, torch.is_grad_enabled(), layer.training)
        held = self._held
        if held is None or held.x is not x or held.state != state or place not in held.outputs:
            held = self._held = _Held(x=x, state=state, outputs=self._compute(x, is_training=layer.training))
        return self._take(held, place)

    def _take(self, held: _Held, place: int) -> torch.Tensor:
        output = held.outputs.pop(place)
        if not held.outputs:
            self._held = None
        return output

    def _compute(self, x: torch.Tensor, *, is_training: bool) -> dict[int, torch.Tensor]:
        joined = self.joined
        with torch.no_grad():  # every time: an optimizer, a resume or anybody else may have changed them
            for member, up in zip(joined.members, joined.ups, strict=True):
                if member.adapters:
                    down = joined.weight[joined.width :][member.ranks]
                    down.copy_(member.adapters[0])
                    up.copy_(member.adapters[1])
        adapters = [parameter for member in joined.members for parameter in member.adapters or ()]
        rows = x.reshape(-1, x.shape[-1]).to(joined.weight.dtype)
        outputs = _LoraProducts.apply(rows, joined, joined.dropout if is_training else 0.0, *adapters)
        return {place: output.view(*x.shape[:-1], -1) for place, output in enumerate(outputs)}

    def _is_plain(self, member: Member) -> bool:
        """Whether the layer is as it was found: its weight in the joined one, its adapter the only active one."""
        is_joined = member.base.weight.data_ptr() == self.joined.weight[member.outputs].data_ptr()
        layer = member.layer
        if not isinstance(layer, LoraLinear):
            return is_joined
        return is_joined and not layer.disable_adapters and not layer.merged and layer.active_adapters == [member.adapter]
