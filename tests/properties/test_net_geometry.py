"""What geometry computes from the spec alone, held against the built network, over random specs of all parts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unetkit.core.errors import SpecError
from unetkit.nets.build import UNet, build
from unetkit.nets.geometry import flops, geometry, output_shape
from unetkit.nets.ops import AVERAGE_POOL
from unetkit.nets.program import CONVOLUTIONS
from unetkit.nets.spec import PARTS, NetSpec
from unetkit.nets.topology import program

NORMS = ("batch", "instance", "group", "layer", "none")
# parts that look at the whole image, by field
FAR = {
    "block": ("squeeze-excite",),
    "decoder_block": ("squeeze-excite",),
    "up": ("corners",),
    "bottleneck": ("transformer",),
    "norm": ("instance", "group"),
}


@st.composite
def values(draw: st.DrawFn, ndims: Sequence[int] = (1, 2, 3), local: bool = False) -> dict[str, Any]:
    """Fields of a small spec, each drawn for itself: what does not go together is not avoided."""
    ndim = draw(st.sampled_from(ndims))
    levels = draw(st.integers(1, {1: 4, 2: 3, 3: 2}[ndim]))

    def per_level(numbers: list[int], count: int) -> Any:
        one = st.sampled_from(numbers)
        return tuple(draw(st.one_of(one, st.tuples(*[one] * ndim))) for _ in range(count))

    def widths(count: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(1, 5)) for _ in range(count))

    found: dict[str, Any] = {
        "ndim": ndim,
        "in_channels": draw(st.integers(1, 3)),
        "classes": draw(st.integers(1, 3)),
        "channels": widths(levels),
        "kernels": per_level([1, 3, 5] if ndim == 1 else [1, 3], levels),
        "strides": per_level([1, 2, 3], levels - 1),
    }
    # each of these is its default about half of the time, so that not everything happens at once
    choices: dict[str, Sequence[Any]] = {
        **PARTS,
        "vocabulary": (0, 0, 0, 7),
        "stem": (0, 3),
        "stem_stride": (1, 2) if ndim == 3 else (1, 2, 4),
        "blocks": (1, 3),
        "decoder_blocks": (1, 2),
        "bias": (True, False),
        "recurrences": (1, 2),
        "prune": (0, 0, 1, 2),
        "up_bias": (True, False),
        "up_width": ("skip", "same"),
        "bottleneck_layers": (1, 2),
        "norm": NORMS,
        "norm_scale": (True, False),
        "activation": ("relu", "leaky_relu", "prelu", "elu", "gelu", "silu"),
        "padding": ("reflect", "replicate", "valid", "valid"),
        "dropout": (0.3,),
        "dropout_at": ("bottom", "blocks", "convolutions"),
        "dropout_of": ("values", "maps"),
        "deep_supervision": (True, False),
    }
    for field, names in choices.items():
        allowed = [name for name in names if not (local and name in FAR.get(field, ()))]
        if draw(st.booleans()):
            found[field] = draw(st.sampled_from(allowed))
    if draw(st.booleans()):
        found["decoder_channels"] = widths(levels - 1)
    return found


def repaired(fields: dict[str, Any]) -> NetSpec:
    """The spec of what goes together. Where something is refused, the message names the field, and what to do: without
    that field the rest is right."""
    try:
        return NetSpec.make(fields)
    except SpecError as error:
        message = str(error)
    match = re.match(r"NetSpec: (\w+): .*\b(use|give|needs|have|leave)\b", message)
    assert match is not None, message
    rest = dict(fields)
    del rest[match[1]]
    return repaired(rest)


def specs(ndims: Sequence[int] = (1, 2, 3), local: bool = False) -> st.SearchStrategy[NetSpec]:
    return values(ndims, local).map(repaired)


def image_for(spec: NetSpec, shape: Sequence[int], batch: int = 1) -> Tensor:
    if spec.vocabulary:
        return torch.randint(0, spec.vocabulary, (batch, 1, *shape))
    return torch.rand(batch, spec.in_channels, *shape)


@settings(deadline=None, max_examples=150)
@given(specs(), st.data())
def test_shapes_parameters_and_flops_are_those_of_the_network(spec: NetSpec, data: st.DataObject) -> None:
    facts, net = geometry(spec), build(spec).eval()
    assert sum(p.numel() for p in net.parameters()) == facts.parameters
    shape = tuple(2 * m + data.draw(st.integers(1, 12 if spec.ndim < 3 else 6)) for m in facts.margin)
    # the kernels of attention that are not written out are not counted on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        logits = net(image_for(spec, shape))
    assert logits.shape == (1, spec.classes, *output_shape(spec, shape))
    assert logits.isfinite().all()
    assert counter.get_total_flops() == flops(spec, shape)

    fitted = facts.fit(shape)
    assert all(f >= n for f, n in zip(fitted, shape, strict=True))
    assert all((f - s) % d == 0 for f, s, d in zip(fitted, facts.smallest, facts.divisor, strict=True))
    assert facts.fit(fitted) == fitted


@settings(deadline=None, max_examples=60)
@given(specs())
def test_whatever_is_not_refused_trains(spec: NetSpec) -> None:
    net = build(spec).train()
    shape = [2 * m + 3 for m in geometry(spec).margin]
    results = net(image_for(spec, shape, batch=2))
    results = results if isinstance(results, list) else [results]
    assert len(results) == len(program(spec).outputs)
    torch.stack([r.square().mean() for r in results]).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@settings(deadline=None, max_examples=30)
@given(specs())
def test_the_program_names_what_the_modules_do(spec: NetSpec) -> None:
    net = build(spec)
    kinds = {layer.name: layer.kind for layer in program(spec).layers}
    for layer in program(spec).layers:
        assert kinds[layer.module] == layer.kind  # what is shared is of one kind
        if layer.kind in CONVOLUTIONS:
            described = (layer.in_channels, layer.channels, layer.kernel, layer.stride, layer.pad, layer.groups)
            m: Any = net.get_submodule(layer.module)
            assert described == (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding, m.groups)


class Spread(nn.Module):
    """In the place of unpooling: every pixel of a box sees its value and what was pooled."""

    def __init__(self, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        x = x + pooled
        for axis, times in enumerate(self.stride, start=2):
            x = x.repeat_interleave(times, axis)
        return x


class Apply(nn.Module):
    """A function of one tensor as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.forward = function


def see_everything(net: UNet) -> UNet:
    """Positive weights, in double precision, and means in place of maxima: whatever can have an influence now has one.

    Weights sum to about one, so that no gradient of a deep network is too small to be a number; gates do not saturate,
    and norms that take a mean away (a single channel has nothing left then) are left out.
    """
    net = net.double().eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            value = p.abs() + 0.1 if name.endswith("weight") else torch.zeros_like(p)
            p.copy_(value / value.sum() * max(p.shape[:2]) if p.ndim > 1 else value)
    for layer in net.program.layers:
        seeing: nn.Module | None = None
        if layer.kind in ("max_pool", "where_max"):
            seeing = AVERAGE_POOL[net.spec.ndim - 1](layer.kernel, layer.stride)
        elif layer.kind == "unpool":
            seeing = Spread(layer.stride)
        elif layer.kind == "sigmoid":
            seeing = Apply(torch.log1p)
        elif layer.kind == "layer_norm":
            seeing = nn.Identity()
        elif layer.kind == "embed":
            seeing = Apply(lambda x, n=layer.channels: x.expand(-1, n, *x.shape[2:]))
        if seeing is not None:
            part, name = layer.module.rsplit(".", 1)
            setattr(net.get_submodule(part), name, seeing)
    return net


def check_halo(spec: NetSpec) -> None:
    """Gradients of single output pixels, for every alignment, reach exactly as far as geometry says."""
    facts, net = geometry(spec), see_everything(build(spec, seed=1))
    shape = facts.fit([2 * h + 3 * d for h, d in zip(facts.halo, facts.divisor, strict=True)])
    image = torch.rand(1, spec.in_channels, *shape, dtype=torch.float64, requires_grad=True)
    logits = net(image)
    reach, field = [0] * spec.ndim, [0] * spec.ndim
    for phase in range(max(facts.divisor)):
        # the first position of this phase that has its whole context on both sides
        at = [
            min(-(-h // d) * d + phase % d, n - h - 1) for h, d, n in zip(facts.halo, facts.divisor, shape, strict=True)
        ]
        pixel = logits[(0, 0, *(a - m for a, m in zip(at, facts.margin, strict=True)))]
        (gradient,) = torch.autograd.grad(pixel, image, retain_graph=True)
        seen = gradient[0].abs().sum(0).nonzero()
        for axis in range(spec.ndim):
            first, last = int(seen[:, axis].min()), int(seen[:, axis].max())
            reach[axis] = max(reach[axis], at[axis] - first, last - at[axis])
            field[axis] = max(field[axis], last - first + 1)
    assert tuple(reach) == facts.halo
    assert tuple(field) == facts.receptive_field


@settings(deadline=None, max_examples=60)
@given(specs(ndims=(1,), local=True))
def test_halo_is_exact_in_1d(spec: NetSpec) -> None:
    check_halo(spec)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kernels": ((1, 3), 3, (3, 1)), "strides": ((1, 2), 2)},
        {"strides": ((3, 2),), "channels": (2, 2), "up": "linear", "block": "residual"},
        {"stem_stride": 2, "channels": (2, 2), "down": "strided", "padding": "reflect"},
        {"padding": "valid", "up": "shuffle", "channels": (2, 2)},
        {"padding": "valid"},
        {"ndim": 3, "channels": (1, 1), "strides": ((1, 2, 2),), "kernels": ((1, 3, 3), 3), "blocks": 1},
        {"skip": "attention", "up": "shuffle", "padding": "valid", "blocks": 1},
        {"topology": "full-scale", "block": "dense", "channels": (2, 3)},
        {"topology": "nested", "skip": "fusion", "down": "blur", "kernels": 1},
        {"topology": "scores", "down": "block", "block": "inception"},
        {"up": "unpool", "bottleneck": "pyramid", "channels": (2, 2)},
        {"ndim": 3, "channels": (1, 1), "stem_stride": 2, "blocks": 1, "padding": "replicate"},
    ],
)
def test_halo_is_exact_in_2d_and_3d(values: dict[str, Any]) -> None:
    check_halo(NetSpec(**{"channels": (2, 2, 2), **values}))


@settings(deadline=None, max_examples=40)
@given(specs(ndims=(1,), local=True), st.data())
def test_a_part_with_its_halo_gives_what_the_whole_gives(spec: NetSpec, data: st.DataObject) -> None:
    facts, net = geometry(spec), build(spec, seed=1).double().eval()
    assert facts.local
    whole = facts.fit([4 * h + 8 * d + 2 * m for h, d, m in zip(facts.halo, facts.divisor, facts.margin, strict=True)])
    image = image_for(spec, whole).double()
    part, inner = [], []
    for n, h, d in zip(whole, facts.halo, facts.divisor, strict=True):
        start = d * data.draw(st.integers(1, max(1, (n - 2 * h) // d - 2)))
        part.append(slice(start, n))
        inner.append(slice(start + h, n))
    with torch.no_grad():
        all_logits, part_logits = net(image), net(image[(..., *part)].contiguous())
    left = [slice(s.start, n - 2 * m) for s, n, m in zip(inner, whole, facts.margin, strict=True)]
    same = [slice(i.start - p.start, None) for i, p in zip(inner, part, strict=True)]
    torch.testing.assert_close(part_logits[(..., *same)], all_logits[(..., *left)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"norm": "instance"}, "instance norm takes its statistics over the whole tile"),
        ({"norm": "group"}, "group norm takes its statistics over the whole tile"),
        ({"up": "corners"}, "interpolation with aligned corners depends on the size of the tile"),
        ({"block": "squeeze-excite"}, "squeeze and excitation takes means over the whole tile"),
        (
            {"bottleneck": "transformer"},
            "a transformer looks at the whole tile; position encodings span the whole tile",
        ),
    ],
)
def test_networks_that_are_not_local_say_why(values: dict[str, Any], why: str) -> None:
    facts = geometry(NetSpec(**values))
    assert (facts.local, facts.why_not_local) == (False, why)


def test_every_other_part_is_local() -> None:
    for field, names in {**PARTS, "norm": NORMS}.items():
        for name in set(names) - set(FAR.get(field, ())):
            assert geometry(repaired({field: name, "channels": (4, 4)})).local, (field, name)
