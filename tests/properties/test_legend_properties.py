"""What holds for every legend: encode undoes decode, the fast paths equal the definition, JSON changes nothing; and for
regions that overlap: bit masks are what a loop over pixels and regions makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Legend, LegendClass, Value
from unetkit.data.labels.mask_files import part_bits
from unetkit.data.labels.parts import in_legend, with_unannotated

COLOUR = st.tuples(*[st.integers(0, 255)] * 3)


@st.composite
def legends(draw: st.DrawFn) -> Legend:
    kind = draw(st.sampled_from(["values", "colours"]))
    one: st.SearchStrategy[Value] = COLOUR if kind == "colours" else st.integers(0, 300) | st.integers(-(2**20), 2**20)
    found = draw(st.lists(one, min_size=3, max_size=12, unique=True))
    ignore = found.pop() if draw(st.booleans()) else None
    classes = [LegendClass(name=str(k), value=v, colour=draw(COLOUR)) for k, v in enumerate(found)]
    if kind == "values" and len(classes) > 2 and draw(st.booleans()):
        last = classes.pop()
        assert isinstance(last.value, int)
        classes[0] = classes[0].model_copy(update={"also": (last.value,)})
    background = draw(st.none() | st.integers(0, len(classes) - 1))
    return Legend.model_validate({"kind": kind, "classes": classes, "background": background, "ignore": ignore})


@settings(deadline=None, max_examples=60)
@given(legends(), st.integers(0, 2**32 - 1))
def test_encode_undoes_decode(legend: Legend, seed: int) -> None:
    label = np.random.default_rng(seed).integers(0, len(legend.classes), (7, 9)).astype(np.uint8)
    if legend.ignore is not None:
        label[2, 3:5] = IGNORE
    raw = legend.decode(label)
    again, strays = legend.encode(raw)
    np.testing.assert_array_equal(again, label)
    assert strays == 0
    assert raw.shape == ((3, 7, 9) if legend.kind == "colours" else (7, 9))


@settings(deadline=None, max_examples=60)
@given(legends(), st.integers(0, 2**32 - 1))
def test_encode_is_the_nearest_value(legend: Legend, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(v, k) for k, c in enumerate(legend.classes) for v in (c.value, *c.also)]
    pairs += [] if legend.ignore is None else [(legend.ignore, IGNORE)]
    shape = (3, 5, 6) if legend.kind == "colours" else (5, 6)
    raw = rng.integers(0, 256, shape)
    label, strays = legend.encode(raw)
    expected_strays = 0
    for y in range(5):
        for x in range(6):
            pixel = raw[..., y, x]
            distances = [float(((np.asarray(v) - pixel) ** 2).sum()) for v, _ in pairs]
            nearest = {k for (_, k), d in zip(pairs, distances, strict=True) if d == min(distances)}
            assert int(label[y, x]) in nearest
            expected_strays += min(distances) > 0
    assert strays == expected_strays


@settings(deadline=None, max_examples=60)
@given(legends())
def test_json_changes_nothing(legend: Legend) -> None:
    assert Legend.model_validate_json(legend.model_dump_json()) == legend
    assert Legend.parse(legend.model_dump(mode="json"), "plan.json") == legend


@st.composite
def region_legends(draw: st.DrawFn) -> Legend:
    """Regions with a file each, or made of the values of one mask."""
    count = draw(st.integers(1, 7))
    coded = draw(st.booleans())
    values = draw(st.permutations([*range(1, 12)]))
    classes = [
        LegendClass(
            name=f"r{k}",
            value=values[k] if coded else draw(st.sampled_from([1, 255])),
            colour=draw(COLOUR),
            codes=tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=5, unique=True))) if coded else (),
        )
        for k in range(count)
    ]
    ignore = draw(st.sampled_from([None, 20])) if coded else None
    return Legend.model_validate({"kind": "regions", "classes": classes, "background": None, "ignore": ignore})


def bits_of(label: np.ndarray, k: int) -> list[bool]:
    return [bool(int(v) // 2**k % 2) and int(v) != IGNORE for v in label.reshape(-1)]


@settings(deadline=None, max_examples=80)
@given(region_legends(), st.integers(0, 2**32 - 1))
def test_regions_are_what_a_loop_makes_of_them(legend: Legend, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 1 << len(legend.classes), (5, 6)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = IGNORE
    for k in range(len(legend.classes)):
        assert legend.where(label, k).reshape(-1).tolist() == bits_of(label, k)
    assert legend.count(label).tolist() == [sum(bits_of(label, k)) for k in range(len(legend.classes))]
    colours, shown = legend.display()
    for value in range(256):
        inside = [k for k in range(len(legend.classes)) if value < 1 << len(legend.classes) and value >> k & 1]
        assert bool(shown[value]) == bool(inside)
        if inside:
            assert tuple(colours[value].tolist()) == legend.classes[inside[-1]].colour


@settings(deadline=None, max_examples=80)
@given(region_legends(), st.integers(0, 2**32 - 1))
def test_masks_of_regions_are_written_and_read_again(legend: Legend, seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 1 << len(legend.classes), (5, 6)).astype(np.uint8)
    files = dict(legend.files(label))
    assert tuple(files) == legend.folders
    if legend.apart:  # what is written is what was meant, bit by bit; and is read as it was written
        for k, mask in enumerate(files.values()):
            assert (mask.reshape(-1) == legend.classes[k].value).tolist() == bits_of(label, k)
        order = rng.permutation(len(legend.classes)).tolist()
        bits = sum(((legend.decode(label)[k] > 0).astype(np.int64) << n for n, k in enumerate(order)))
        raw, strays = in_legend(bits, [legend.names[k] for k in order], legend)
        np.testing.assert_array_equal(legend.encode(raw, False)[0], label)
        assert not strays.any()
        return
    painted = np.zeros(label.shape, np.int64)
    for k, entry in enumerate(legend.classes):
        painted[legend.where(label, k)] = entry.value
    np.testing.assert_array_equal(files[""], painted)
    raw = rng.integers(0, 13, (5, 6))
    known = {0, *(v for c in legend.classes for v in c.codes)}
    raw[~np.isin(raw, [*known])] = 0
    expected = [
        IGNORE if v == legend.ignore else sum(1 << k for k, c in enumerate(legend.classes) if v in c.codes)
        for v in raw.reshape(-1).tolist()
    ]
    assert legend.encode(raw, False)[0].reshape(-1).tolist() == expected


@settings(deadline=None, max_examples=40)
@given(region_legends())
def test_json_changes_no_regions(legend: Legend) -> None:
    assert Legend.model_validate_json(legend.model_dump_json()) == legend


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_parts_are_numbered_as_their_legend_says(count: int, seed: int) -> None:
    """Bit masks of any number of classes that exclude each other, in any order, with what is not annotated."""
    rng = np.random.default_rng(seed)
    names = [f"c{k}" for k in range(count)]
    classes = [LegendClass(name="background", value=0, colour=(0, 0, 0))]
    classes += [LegendClass(name=name, value=k + 1, colour=(1, 1, 1)) for k, name in enumerate(names)]
    legend = Legend(kind="values", classes=tuple(classes), background=0)
    label = rng.integers(0, count + 1, (6, 7))
    hole = rng.random(label.shape) < 0.2
    order = rng.permutation(count).tolist()
    masks = np.stack([(label == k + 1) for k in order])
    bits = with_unannotated(part_bits(masks, Path("m")), hole)
    raw, strays = in_legend(bits, [names[k] for k in order], legend)
    np.testing.assert_array_equal(legend.encode(raw, False)[0], np.where(hole, IGNORE, label))
    assert not strays.any()
