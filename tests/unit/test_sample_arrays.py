"""`Sample`: arrays in memory are a data set, in one, two and three dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unetkit.core.errors import DataError
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover
from unetkit.data.find.sample import Sample
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.prepared.store import prepare_cases
from unetkit.data.split import read_split, split_cases, write_split

SHAPES = [(400,), (30, 40), (14, 20, 3), (3, 20, 16)]


def samples(shape: tuple[int, ...], channels: int = 0, n: int = 4) -> list[Sample]:
    """Blocks of 1 on 0, and images that show them through noise."""
    made = []
    for number in range(n):
        rng = np.random.default_rng(number)
        label = np.zeros(shape, np.int64)
        label[tuple(slice(side // 4, side // 2 + number) for side in shape)] = 1
        noisy = label + rng.normal(0, 0.2, (*([channels] if channels else []), *shape))
        made.append(Sample(noisy, label, group=f"g{number // 2}", spacing=(0.5,) * len(shape)))
    return made


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [0, 1, 2, 5])
def test_arrays_of_any_dimension_become_prepared_cases(shape: tuple[int, ...], channels: int, tmp_path: Path) -> None:
    made = samples(shape, channels)
    found = discover(made)
    assert found.layout == "4 arrays in memory"
    assert [case.id for case in found.cases] == ["0", "1", "2", "3"]
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert diagnosis.legend.names == ("background", "foreground")
    assert diagnosis.groups.count == 2
    plan = PreparePlan(channels=channels or 1, colour="bands")
    prepared = prepare_cases(found.cases, diagnosis.legend, plan, 0, tmp_path)
    for sample, case in zip(made, prepared, strict=True):
        np.testing.assert_array_equal(case.label_X, sample.label)
        assert case.image_CX.shape == (channels or 1, *shape)
        assert case.spacing == sample.spacing
        with CaseReader(np.asarray(sample.image), plan, ndim=len(shape)) as reader:  # as a new image is read
            np.testing.assert_array_equal(reader.read(reader.whole), case.image_CX)


def test_channels_may_come_last_where_the_label_says_so() -> None:
    label = np.zeros((12, 10), np.uint8)
    label[3:6] = 1
    colour = np.random.default_rng(0).integers(0, 255, (12, 10, 3))
    first = discover([Sample(colour, label)]).cases[0].images[0]
    np.testing.assert_array_equal(first, np.moveaxis(colour, -1, 0))


def test_a_split_of_samples_is_written_and_read(tmp_path: Path) -> None:
    found = discover(samples((30, 40)))
    diagnosis = examine(found)
    split = split_cases(found.cases, diagnosis.groups, diagnosis.label_counts, 0)
    write_split(tmp_path / "split.csv", found.cases, split)
    assert "sample 1,the label of sample 1" in (tmp_path / "split.csv").read_text()
    assert read_split(tmp_path / "split.csv", found.cases).train == split.train


def test_samples_may_say_who_validates_and_carry_no_label() -> None:
    made = samples((50,))
    extra = Sample(np.zeros(50), id="new")
    named = [Sample(s.image, s.label, id=f"s{n}", split="val" if n == 3 else "train") for n, s in enumerate(made)]
    found = discover([*named, extra])
    assert [case.id for case in found.unlabelled_cases] == ["new"]
    diagnosis = examine(found)
    assert split_cases(found.cases, diagnosis.groups, diagnosis.label_counts, 0).val == ("s3",)
    assert any("sample new" in finding.file for finding in diagnosis.findings)


def test_tokens_are_read_as_they_are() -> None:
    plan = PreparePlan(colour="tokens", normalise="none")
    tokens = np.array([3, 0, 70_000, 1 << 23])
    with CaseReader(tokens, plan, ndim=1) as reader:
        np.testing.assert_array_equal(reader.read(reader.whole), tokens[None].astype(np.float32))
    for wrong in (np.array([0.5, 1]), np.array([-1, 2]), np.array([0, 1 << 24])):
        with CaseReader(wrong, plan, ndim=1) as reader, pytest.raises(DataError, match="takes tokens, whole numbers"):
            reader.read(reader.whole)
    with pytest.raises(ValueError, match="tokens are numbers of things: normalise must be none, not image"):
        PreparePlan(colour="tokens")


LINE, PLANE = np.zeros(6), np.zeros((6, 5))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([Sample(LINE)], "none of the 1 samples has a label; give Sample(image, label) for those to learn from"),
        ([LINE], "ndarray is no Sample; give a folder, or a list of unetkit.Sample(image, label)"),
        (
            [Sample(LINE, LINE, id="a"), Sample(PLANE, PLANE, id="b")],
            "the label of sample a has 1 axes and that of sample b 2; train on signals",
        ),
        ([Sample(LINE, LINE, id="a"), Sample(LINE, LINE, id="a")], "two samples are called 'a'; give each an id"),
        ([Sample(np.zeros((2, 4, 4)), PLANE)], "sample 0: its image has 4 × 4 pixels and its label 5 × 6 pixels; make"),
        ([Sample(np.zeros(7), LINE)], "sample 0: its image has 7 samples and its label 6 samples; make them equal"),
        ([Sample(np.zeros((2, 2, 6)), LINE)], "sample 0: its image has the shape (2, 2, 6), but labels here"),
        ([Sample(np.array(["a"]), LINE)], "sample 0: its image has the shape (1,) and the type <U1; give real numbers"),
        ([Sample(LINE, LINE, split="tran")], "sample 0: the split 'tran' is none of train, val, test"),
        ([Sample(LINE, LINE, spacing=(1, 1))], "sample 0: its spacing is (1.0, 1.0); give one distance above 0"),
        ([Sample(np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 2, 2)))], "the label of sample 0 has 4 axes; signals have 1"),
    ],
)  # fmt: skip
def test_samples_that_cannot_be_used(made: list[Sample], message: str) -> None:
    with pytest.raises(DataError) as error:
        discover(made)
    assert message in str(error.value)
