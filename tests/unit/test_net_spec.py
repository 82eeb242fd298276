"""NetSpec: what it refuses and how it says so, and that it survives JSON."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from unetkit.core.errors import PlanError, SpecError
from unetkit.nets.blocks import BLOCKS
from unetkit.nets.bottlenecks import BOTTLENECKS
from unetkit.nets.downs import DOWNS
from unetkit.nets.heads import HEADS
from unetkit.nets.ops import MAKERS
from unetkit.nets.rules import KINDS
from unetkit.nets.skips import SKIPS
from unetkit.nets.spec import PARTS, NetSpec
from unetkit.nets.topology import TOPOLOGIES
from unetkit.nets.ups import UPS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"block": "residal"},
            "'block': must be one of plain, tapered, doubling, residual, preactivation, basic, bottleneck, "
            "squeeze-excite, vnet, dense, recurrent, recurrent-residual, convnext, separable, inception, multires, or "
            "code of your own as module:name or a callable; did you mean 'residual'? (given: 'residal')",
        ),
        ({"norm": "bach"}, "did you mean 'batch'?"),
        ({"padding": 7}, "'padding': must be one of same, reflect, replicate, valid (given: 7)"),
        ({"chanels": (8, 16)}, "there is no field 'chanels'; did you mean 'channels'?"),
        ({"channels": ()}, "'channels': at least one level is needed, for example (16, 32, 64)"),
        ({"channels": (8, 0)}, "'channels': every level needs at least one channel"),
        ({"channels": (8, 16), "strides": (2, 2)}, "strides: 2 entries were given for 1 transitions between levels"),
        (
            {"channels": (8, 16), "strides": ((2, 2, 2),)},
            "(2, 2, 2) at position 0 has 3 numbers, the network has 2 axes",
        ),
        ({"channels": (8, 16), "strides": 0}, "strides: (0, 0) at position 0 must be 1 or more"),
        (
            {"channels": (8, 16), "kernels": (3, 3, 3)},
            "kernels: 3 entries were given for 2 levels; give 2, or one number",
        ),
        ({"channels": (8, 16), "kernels": (3, (3, 4))}, "(3, 4) at level 1 is even; kernels must be odd (1, 3, 5, …)"),
        ({"channels": (8, 16), "blocks": (1, 2, 3)}, "blocks: 3 numbers were given for 2 levels"),
        ({"blocks": 0}, "blocks: every level needs at least one (given: 0)"),
        ({"padding": "valid", "stem_stride": 2}, "padding 'valid' works without a stem; use stem_stride 1"),
        ({"channels": (8, 16), "deep_supervision": True}, "needs three levels or more, channels has 2"),
        (
            {"topology": "full-scale", "skip": "add"},
            "skip: topology 'full-scale' has no use for it; leave it out",
        ),
        ({"head": "conv", "stem_stride": 2}, "head: behind a stem stride it is a convolution and a pixel shuffle"),
        ({"ndim": 4}, "'ndim': input should be 1, 2 or 3"),
        ({"classes": 0}, "'classes': input should be greater than or equal to 1 (given: 0)"),
        ({"dropout": 1.0}, "'dropout': input should be less than 1"),
    ],
)
def test_a_wrong_spec_is_refused_with_what_would_be_right(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as from_file:
        NetSpec.parse(values, "plan.json")
    assert str(from_file.value).startswith("plan.json: ")
    assert message in str(from_file.value)
    with pytest.raises(SpecError) as from_python:
        NetSpec.make(values)
    assert message in str(from_python.value)


def test_replace_checks_the_result() -> None:
    assert NetSpec().replace({"classes": 5}).classes == 5
    with pytest.raises(SpecError, match="3 entries were given for 5 levels"):
        NetSpec().replace({"kernels": (3, 3, 3)})


def test_a_spec_survives_json_and_is_hashable() -> None:
    spec = NetSpec(ndim=3, channels=(4, 8), kernels=((1, 3, 3), 3), strides=((1, 2, 2),), blocks=(1, 2))
    again = NetSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert (spec.kernel(0), spec.kernel(1), spec.stride(0)) == ((1, 3, 3), (3, 3, 3), (1, 2, 2))
    assert [spec.repeats(level) for level in range(spec.levels)] == [1, 2]


def test_every_name_has_its_part_and_every_part_its_name() -> None:
    tables: dict[str, dict[str, Any]] = {"block": BLOCKS, "decoder_block": BLOCKS, "skip": SKIPS, "up": UPS}
    tables |= {"topology": TOPOLOGIES, "bottleneck": BOTTLENECKS, "head": HEADS}
    tables["down"] = {**DOWNS, "block": None}  # in the block itself
    assert {field: set(names) for field, names in PARTS.items()} == {field: set(t) for field, t in tables.items()}


def test_every_kind_of_layer_is_in_every_table() -> None:
    assert set(MAKERS) == set(KINDS)


def test_specs_and_geometry_do_not_load_torch() -> None:
    code = (
        "import sys; from unetkit.nets import NetSpec, PRESETS; from unetkit.nets.geometry import flops, geometry; "
        "[geometry(p.spec) for p in PRESETS.values()]; flops(NetSpec(), (64, 64)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
