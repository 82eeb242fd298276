"""What geometry computes from the spec alone, held against the built network, over random specs."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from unetkit.nets.build import UNet, build
from unetkit.nets.geometry import activation_memory, flops, geometry, output_shape
from unetkit.nets.ops import AVERAGE_POOL
from unetkit.nets.spec import NetSpec
from unetkit.nets.topology import program


@st.composite
def specs(draw: st.DrawFn, ndims: Sequence[int] = (1, 2, 3), local: bool = False) -> NetSpec:
    ndim = draw(st.sampled_from(ndims))
    levels = draw(st.integers(1, {1: 4, 2: 3, 3: 2}[ndim]))

    def per_level(values: list[int], count: int) -> Any:
        one = st.sampled_from(values)
        return tuple(draw(st.one_of(one, st.tuples(*[one] * ndim))) for _ in range(count))

    padding = draw(st.sampled_from(["same", "reflect", "replicate", "valid"]))
    return NetSpec(
        ndim=ndim,
        in_channels=draw(st.integers(1, 2)),
        classes=draw(st.integers(1, 3)),
        channels=tuple(draw(st.integers(1, 4)) for _ in range(levels)),
        kernels=per_level([1, 3, 5] if ndim == 1 else [1, 3], levels),
        strides=per_level([1, 2, 3], levels - 1),
        stem_stride=1 if padding == "valid" else draw(st.sampled_from([1, 1, 2, 4] if ndim < 3 else [1, 1, 2])),
        blocks=draw(st.integers(1, 2)),
        block=draw(st.sampled_from(["plain", "residual"])),
        skip=draw(st.sampled_from(["concat", "add", "none"])),
        down=draw(st.sampled_from(["max", "average", "strided"])),
        up=draw(st.sampled_from(["transposed", "linear", "nearest", "shuffle"])),
        norm=draw(st.sampled_from(["batch", "none"] if local else ["batch", "instance", "group", "none"])),
        activation=draw(st.sampled_from(["relu", "leaky_relu", "gelu", "silu"])),
        padding=padding,
    )


@settings(deadline=None, max_examples=60)
@given(specs(), st.data())
def test_shapes_parameters_layers_and_flops_are_those_of_the_network(spec: NetSpec, data: st.DataObject) -> None:
    facts, net = geometry(spec), build(spec).eval()
    assert sum(p.numel() for p in net.parameters()) == facts.parameters
    shape = tuple(2 * m + data.draw(st.integers(1, 14)) for m in facts.margin)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = net(torch.rand(1, spec.in_channels, *shape))
    assert logits.shape[2:] == output_shape(spec, shape)
    assert counter.get_total_flops() == flops(spec, shape)

    fitted = facts.fit(shape)
    assert all(f >= n for f, n in zip(fitted, shape, strict=True))
    assert all((f - s) % d == 0 for f, s, d in zip(fitted, facts.smallest, facts.divisor, strict=True))
    assert facts.fit(fitted) == fitted


@settings(deadline=None, max_examples=30)
@given(specs())
def test_the_program_names_what_the_modules_do(spec: NetSpec) -> None:
    net = build(spec)
    for layer in program(spec).layers:
        module = net.get_submodule(layer.name)
        if layer.kind in ("conv", "transposed"):
            described = (layer.in_channels, layer.channels, layer.kernel, layer.stride, layer.pad, layer.bias)
            m: Any = module
            assert described == (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding, m.bias is not None)


def see_everything(net: UNet) -> UNet:
    """Positive weights, in double precision, means in place of maxima: whatever can have an influence now has one."""
    net = net.double().eval()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(p.abs() + 0.1 if name.endswith("weight") else torch.zeros_like(p))
    for layer in net.program.layers:
        if layer.kind == "max_pool":
            part, name = layer.name.rsplit(".", 1)
            pool = AVERAGE_POOL[net.spec.ndim - 1](layer.kernel, layer.stride)
            setattr(net.get_submodule(part), name, pool)
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
        {"ndim": 3, "channels": (1, 1), "stem_stride": 2, "blocks": 1, "padding": "replicate"},
    ],
)
def test_halo_is_exact_in_2d_and_3d(values: dict[str, Any]) -> None:
    check_halo(NetSpec(**{"channels": (2, 2, 2), **values}))


@settings(deadline=None, max_examples=20)
@given(specs(ndims=(1, 2), local=True), st.data())
def test_a_part_with_its_halo_gives_what_the_whole_gives(spec: NetSpec, data: st.DataObject) -> None:
    facts, net = geometry(spec), build(spec, seed=1).double().eval()
    assert facts.local
    whole = facts.fit([4 * h + 8 * d + 2 * m for h, d, m in zip(facts.halo, facts.divisor, facts.margin, strict=True)])
    image = torch.randn(1, spec.in_channels, *whole, dtype=torch.float64)
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


def test_networks_that_are_not_local_say_why() -> None:
    facts = geometry(NetSpec(norm="instance"))
    assert (facts.local, facts.why_not_local) == (False, "instance norm takes its statistics over the whole tile")
    assert geometry(NetSpec(norm="group")).why_not_local == "group norm takes its statistics over the whole tile"
    for norm in ("batch", "none"):
        assert geometry(NetSpec(norm=norm, up="linear")).local


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is on, but for what is made of `known` storage."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.known, self.peak = known, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.alive and key not in self.known:
                    self.alive[key] = storage.nbytes()
                    weakref.finalize(storage, self.alive.pop, key, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def measured_memory(net: nn.Module, image: torch.Tensor) -> int:
    known = {t.untyped_storage()._cdata for t in [*net.parameters(), *net.buffers(), image]}
    with Alive(known) as count:
        if net.training:
            results = net(image)
            results = results if isinstance(results, list) else [results]
            gradients = [torch.ones_like(r) for r in results]
            torch.autograd.backward(results, gradients)
        else:
            with torch.no_grad():
                net(image)
    return count.peak + image.nbytes


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"block": "residual", "padding": "reflect"},
        {"norm": "none", "activation": "gelu"},
        {"skip": "add", "up": "linear", "down": "average"},
        {"stem_stride": 2, "down": "strided", "up": "shuffle", "activation": "silu"},
        {"norm": "instance", "deep_supervision": True, "dropout": 0.3},
        {"padding": "valid"},
        {"ndim": 3, "channels": (8, 16, 32)},
    ],
)
def test_activation_memory_is_estimated_within_15_percent(values: dict[str, Any], training: bool) -> None:
    spec = NetSpec(**{"channels": (8, 16, 32, 64), **values})
    shape = geometry(spec).fit((150, 150) if spec.ndim == 2 else (24, 24, 24))
    net = build(spec).train(training)
    measured = measured_memory(net, torch.randn(2, 1, *shape))
    # what the backward pass holds of the parameters themselves is not an activation
    weights = 4 * geometry(spec).parameters if training else 0
    estimate = activation_memory(spec, 2, shape, 4, training)
    assert abs(estimate + weights / 2 - measured) <= 0.15 * measured + weights / 2
