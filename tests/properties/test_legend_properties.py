"""What holds for every legend: encode undoes decode, the fast paths equal the definition, JSON changes nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.data.case import IGNORE
from unetkit.data.legend import Legend, LegendClass, Value

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
