"""What holds for every image and plan: a region is a part of the whole, and scale and offset do not matter."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader

PLANS = st.builds(
    lambda normalise, method, rgb: PreparePlan.parse(
        {"normalise": normalise, "method": method, "channels": 3 if rgb else 1, "colour": "rgb" if rgb else "grey"},
        "test",
    ),
    st.sampled_from(["image", "set", "none"]),
    st.sampled_from(["zscore", "percentile"]),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(PLANS, st.integers(1, 40), st.integers(1, 40), st.booleans(), st.data())
def test_a_region_is_a_part_of_the_whole(plan: PreparePlan, h: int, w: int, colour: bool, data: st.DataObject) -> None:
    assume(not (colour and h == 1))  # one row of RGB has the shape of one channel that is three wide, which is meant
    shape = (h, w, 3) if colour else (h, w)
    image = np.random.default_rng(h * 41 + w).integers(0, 65536, shape).astype(np.uint16)
    top, left = data.draw(st.integers(0, h - 1)), data.draw(st.integers(0, w - 1))
    region = Region((top, left), (data.draw(st.integers(top, h)), data.draw(st.integers(left, w))))
    reader = CaseReader(image, plan)
    whole = reader.read(reader.whole)
    assert whole.shape == (plan.channels, h, w)
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(reader.read(region), whole[(slice(None), *region.slices)])


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["zscore", "percentile"]), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_scale_and_offset_do_not_matter(method: str, scale: float, offset: float) -> None:
    plan = PreparePlan.parse({"method": method}, "test")
    image = np.random.default_rng(0).normal(size=(20, 30))
    a, b = CaseReader(image, plan), CaseReader(image * scale + offset * scale, plan)
    np.testing.assert_allclose(a.read(a.whole), b.read(b.whole), atol=2e-3)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(*[st.integers(1, 14)] * 3),
    st.tuples(*[st.sampled_from([0.5, 1.0, 1.01, 2.0, 4.0])] * 3),
    st.sampled_from(["nearest", "linear", "cubic"]),
    st.data(),
)
def test_a_region_of_a_resampled_volume_is_a_part_of_the_whole(
    shape: tuple[int, ...], spacing: tuple[float, ...], thick: str, data: st.DataObject
) -> None:
    volume = np.random.default_rng(sum(shape)).normal(size=(1, *shape)).astype(np.float32)
    plan = PreparePlan.parse({"spacing": spacing, "unit": "mm", "thick": thick}, "test")
    reader = CaseReader(Case(id="a", images=(volume,), spacing=(1.0, 1.0, 2.0)), plan)
    whole = reader.read(reader.whole)
    assert whole.shape == (1, *reader.shape)
    assert reader.spacing is not None
    extent = [n * s for n, s in zip(shape, (1.0, 1.0, 2.0), strict=True)]
    np.testing.assert_allclose(np.multiply(reader.shape, reader.spacing), extent)  # the same space
    start = tuple(data.draw(st.integers(0, n - 1)) for n in reader.shape)
    region = Region(start, tuple(data.draw(st.integers(a, n)) for a, n in zip(start, reader.shape, strict=True)))
    np.testing.assert_array_equal(reader.read(region), whole[(slice(None), *region.slices)])
