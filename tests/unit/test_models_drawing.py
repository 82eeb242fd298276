"""Pictures of networks: valid, whole, without text over text, and true to the outline."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest

from unetkit.nets.drawing import draw
from unetkit.nets.outline import outline
from unetkit.nets.presets import PRESETS
from unetkit.nets.program import Value, Writer
from unetkit.nets.scene import SIGNAL
from unetkit.nets.spec import NetSpec
from unetkit.nets.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]
SMALL = (8, 16, 32)
VARIANTS = {
    "one level": {"channels": (8,)},
    "two levels": {"channels": (8, 16)},
    "attention-up": {"channels": SMALL, "skip": "attention-up"},
    "stem stride": {"channels": SMALL, "stem_stride": 4},
    "deep supervision": {"channels": SMALL, "deep_supervision": True},
    "down in the block": {"channels": (8, 8, 8), "down": "block", "block": "bottleneck", "blocks": 1},
    "pruned": {"channels": SMALL, "topology": "nested", "prune": 1},
    "nested transformer": {"channels": SMALL, "topology": "nested", "bottleneck": "transformer"},
    "full-scale pyramid": {"channels": (512, 2048, 4096), "topology": "full-scale", "bottleneck": "pyramid"},
    "scores of two levels": {"channels": (8, 16), "topology": "scores"},
    "scores, deep supervision": {"channels": (8, 16, 32, 64), "topology": "scores", "deep_supervision": True},
    "unpooled, added": {"channels": SMALL, "up": "unpool", "skip": "add"},
    "anisotropic valid volumes": {"ndim": 3, "channels": SMALL, "padding": "valid", "strides": ((1, 2, 2), 2)},
}


def specs() -> dict[str, NetSpec]:
    return {name: entry.spec for name, entry in PRESETS.items()} | {k: NetSpec.make(v) for k, v in VARIANTS.items()}


def texts(root: ET.Element) -> list[tuple[str, Box]]:
    found = []
    for node in root.iter(f"{SVG}text"):
        x, y, size = (float(node.get(k, "0")) for k in ("x", "y", "font-size"))
        width = text_width(node.text or "", size)
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[node.get("text-anchor", "start")]
        found.append((node.text or "", (left, y - 0.75 * size, left + width, y + 0.1 * size)))
    return found


def boxes(root: ET.Element) -> list[Box]:
    rects = [[float(node.get(k, "0")) for k in ("x", "y", "width", "height")] for node in root.iter(f"{SVG}rect")]
    circles = [[float(node.get(k, "0")) for k in ("cx", "cy", "r")] for node in root.iter(f"{SVG}circle")]
    return [(x, y, x + w, y + h) for x, y, w, h in rects[1:]] + [(x - r, y - r, x + r, y + r) for x, y, r in circles]


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] - 0.2 and b[0] < a[2] - 0.2 and a[1] < b[3] - 0.2 and b[1] < a[3] - 0.2


def distance(point: tuple[float, float], box: Box) -> float:
    dx = max(box[0] - point[0], 0.0, point[0] - box[2])
    dy = max(box[1] - point[1], 0.0, point[1] - box[3])
    return float((dx * dx + dy * dy) ** 0.5)


@pytest.mark.parametrize("name", [*PRESETS, *VARIANTS])
def test_nothing_overlaps_is_cut_or_ends_nowhere(name: str) -> None:
    root = ET.fromstring(draw(outline(specs()[name]), name))
    written = texts(root)
    for (one, a), (other, b) in combinations(written, 2):
        assert not overlap(a, b), f"'{one}' and '{other}'"
    left, top, width, height = (float(n) for n in root.get("viewBox", "").split())
    for x0, y0, x1, y1 in [*(box for _, box in written), *boxes(root)]:
        assert left <= x0 <= x1 <= left + width
        assert top <= y0 <= y1 <= top + height
    things = [*boxes(root), *(box for _, box in written)]
    for polygon in root.iter(f"{SVG}polygon"):
        x, y = (float(n) for n in polygon.get("points", "").split()[0].split(","))
        assert min(distance((x, y), box) for box in things) < 9  # an arrow's tip is at a box or its text


def drawn(**changes: object) -> tuple[ET.Element, list[str]]:
    root = ET.fromstring(draw(outline(NetSpec.make({"channels": SMALL, **changes})), "x"))
    return root, [text for text, _ in texts(root)]


def test_channels_sizes_and_totals_are_written() -> None:
    _, words = drawn(in_channels=3, classes=5)
    channels = [3, 8, 8, 8, 16, 16, 16, 32, 32, 32, 16, 16, 16, 8, 8, 5]
    assert [int(w) for w in words if w.isdecimal()] == channels
    shown = {"512²", "256²", "128²", "input", "logits", "max pool 2×2", "transposed conv 2×2", "skip: concat"}
    assert shown <= {*words}
    assert any(w.startswith("512² pixels, 3 channels in; 5 out; ") for w in words)


def test_what_is_special_is_seen() -> None:
    assert "α" in drawn(skip="attention")[1]
    assert SIGNAL in ET.tostring(drawn(skip="attention")[0], encoding="unicode")
    assert "α" not in drawn()[1]
    assert {"+", "skip: add; +: sum"} <= {*drawn(skip="add")[1]}
    assert "w" in drawn(skip="fusion")[1]
    assert "transformer" in drawn(bottleneck="transformer")[1]
    assert "places of the maxima" in drawn(up="unpool", skip="none")[1]
    assert "skip: concat" not in drawn(skip="none")[1]
    assert "the same, in training only (deep supervision)" in drawn(deep_supervision=True)[1]
    assert "finer levels pooled" in " ".join(drawn(topology="full-scale")[1])
    assert "4 conv" in drawn(blocks=4)[1]


def test_a_nested_network_has_a_box_per_node() -> None:
    root, words = drawn(topology="nested")
    assert [w for w in words if w.isdecimal()].count("8") == 3  # encoder, two nodes
    arcs = [p for p in root.iter(f"{SVG}path") if "C" in p.get("d", "")]
    assert len(arcs) == 1  # from the encoder over the first node to the second


def test_code_of_your_own_is_drawn() -> None:
    def mine(w: Writer) -> tuple[Value, ...]:
        with w.part("look<&>twice"):
            x = w.unit(w.unit(w.input(), 8, 3), 12, 3)
        with w.part("answer"):
            return (w.conv(x, w.spec.classes, 1),)

    words = [t for t, _ in texts(ET.fromstring(draw(outline(NetSpec(channels=(1,), topology=mine)), "a<b")))]
    assert {"a<b", "look<&>twice", "8", "12", "logits"} <= {*words}


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "docs" / "make_models.py"
    spec = importlib.util.spec_from_file_location("make_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_and_its_pictures_are_what_the_script_writes(maker: ModuleType) -> None:
    again = "call python docs/make_models.py"
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(), again
    for name, picture in maker.pictures().items():
        assert maker.picture_file(name).read_text(encoding="utf-8") == picture, again


def test_the_page_names_every_network(maker: ModuleType) -> None:
    page = maker.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [*PRESETS, "The parts"]
    for target in re.findall(r"\]\(([^)#]+)\)", page):
        assert (maker.PAGE.parent / target).exists(), target
