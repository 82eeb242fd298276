"""The outline of a network says what the network is, part by part, before it is built."""

from __future__ import annotations

import pytest
import torch

from unetkit.core.errors import SpecError
from unetkit.nets.build import build
from unetkit.nets.geometry import activation_memory, flops
from unetkit.nets.outline import Outline, Part, format_count, outline
from unetkit.nets.presets import PRESETS
from unetkit.nets.program import Value, Writer
from unetkit.nets.spec import NetSpec


def part(found: Outline, name: str) -> Part:
    return next(p for p in found.parts if p.name == name)


@pytest.mark.parametrize("name", PRESETS)
def test_the_parts_add_up_to_the_network(name: str) -> None:
    spec = PRESETS[name].spec
    found = outline(spec)
    assert sum(p.parameters for p in found.parts) == found.parameters
    assert found.flops == flops(spec, found.shape)
    assert found.training_bytes == activation_memory(spec, 1, found.shape, training=True)
    assert len({p.name for p in found.parts}) == len(found.parts)


def test_sizes_of_ronneberger_2015() -> None:
    found = outline(PRESETS["unet2015"].spec, (572, 572))
    assert found.padded == found.shape == (572, 572)
    assert found.output == part(found, "head").result.shape == (388, 388)
    assert [m.shape[0] for m in part(found, "encoder0").maps] == [570, 568]
    assert part(found, "encoder4").result.shape == (28, 28)
    assert [part(found, f"encoder{k}").result.channels for k in range(5)] == [64, 128, 256, 512, 1024]
    assert part(found, "skip0").what == "crop, concat"
    assert part(found, "up3").reads == ("encoder4",)


@pytest.mark.parametrize(
    "changes",
    [
        {"skip": "attention"},
        {"topology": "nested", "deep_supervision": True},
        {"topology": "full-scale"},
        {"stem_stride": 2, "block": "basic", "down": "block"},
        {"padding": "valid"},
    ],
)
def test_results_of_parts_are_those_of_the_built_network(changes: dict[str, object]) -> None:
    spec = NetSpec.make({"channels": (4, 6, 8), **changes})
    found = outline(spec, (48, 56))
    net = build(spec)
    last = {layer.part: layer.name for layer in net.program.layers}  # of each part the last layer
    values = net.features(torch.zeros(1, 1, 48, 56), list(last.values()))
    for p in found.parts:
        assert values[last[p.name]].shape == (1, p.result.channels, *p.result.shape)


def test_maps_follow_the_convolutions_that_stand_in_a_row() -> None:
    def widths(**changes: object) -> list[int]:
        return [m.channels for m in part(outline(NetSpec.make({"channels": (8, 16), **changes})), "encoder1").maps]

    assert widths() == [16, 16]
    assert widths(block="doubling") == [8, 16]
    assert widths(block="residual", blocks=3) == [16, 16, 16]
    assert widths(block="dense") == [16]
    assert widths(block="inception") == [16]
    assert widths(block="recurrent") == [16]


def test_levels_of_what_has_no_number() -> None:
    found = outline(NetSpec(channels=(8, 16, 32), topology="nested", deep_supervision=True))
    assert part(found, "head1").level == 0
    assert part(found, "head1").training
    assert not part(found, "head2").training
    assert part(found, "node0_2").column == 2
    valid = outline(PRESETS["unet2015"].spec)
    assert part(valid, "head").level == 0


def test_code_of_your_own_is_a_part() -> None:
    def two(w: Writer) -> tuple[Value, ...]:
        with w.part("mine"):
            x = w.unit(w.input(), 8, 3)
        with w.part("head"):
            return (w.conv(x, w.spec.classes, 1),)

    found = outline(NetSpec(channels=(1,), topology=two), (20, 20))
    assert [(p.name, p.role) for p in found.parts] == [("mine", "other"), ("head", "head")]


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(SpecError, match="has 3 axes, this network has 2; give a size like 512x512"):
        outline(NetSpec(), (8, 8, 8))
    with pytest.raises(SpecError, match="holds nothing"):
        outline(NetSpec(), (0, 8))
    with pytest.raises(SpecError, match="give 185 × 185 pixels or more"):
        outline(PRESETS["unet2015"].spec, (100, 100))
    assert outline(PRESETS["unet2015"].form(3)).shape == (188, 188, 188)  # the usual 96³ would leave nothing


def test_counts_have_three_digits() -> None:
    numbers = [7, 999, 1000, 9996, 99_960, 999_600, 19_069_955, 1.58e12]
    assert [format_count(n) for n in numbers] == [
        "7", "999", "1.00 k", "10.0 k", "100 k", "1.00 M", "19.1 M", "1.58 T",
    ]  # fmt: skip
