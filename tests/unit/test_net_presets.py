"""What the presets' papers say of them."""

from __future__ import annotations

import pytest

from unetkit.nets import NetSpec
from unetkit.nets.build import build
from unetkit.nets.geometry import geometry, output_shape
from unetkit.nets.presets import PRESETS, preset
from unetkit.nets.topology import program


def test_unet2015_is_the_papers() -> None:
    spec = preset("unet2015").spec
    assert output_shape(spec, (572, 572)) == (388, 388)
    assert geometry(spec).fit((572, 572)) == (572, 572)  # no padding: every pooled map has an even size
    assert sum(layer.kind in ("conv", "transposed") for layer in program(spec).layers) == 23
    assert geometry(spec).margin == (92, 92)
    assert preset("unet2015").parameters == 31_030_658


def test_names_are_the_keys_and_every_preset_is_described() -> None:
    for name, entry in PRESETS.items():
        assert entry.name == name
        assert entry.paper
        assert entry.note
        assert isinstance(entry.spec, NetSpec)


@pytest.mark.parametrize("name", list(PRESETS))
def test_parameters_are_those_of_the_built_network(name: str) -> None:
    net = build(preset(name).spec)
    assert sum(p.numel() for p in net.parameters()) == preset(name).parameters
