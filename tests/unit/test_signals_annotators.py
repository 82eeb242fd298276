"""Recordings with one annotation file for all leads: waves, rhythms, flutter, beats; which is chosen, what is said."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover
from unetkit.data.formats import Reading, files_behind, open_image, probe
from unetkit.data.formats.base import ImageInfo
from unetkit.data.formats.signals import records
from unetkit.data.formats.signals.annotators import kind_of, read_mark_words
from unetkit.data.formats.signals.mark_files import read_marks
from unetkit.data.formats.signals.records import WAVES
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.labels.masks import read_label
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.predict.finished import Finished
from unetkit.predict.marks import write_marks

LENGTH, RATE = 1000, 100


@pytest.fixture
def wfdb() -> Any:
    """The package, whose import warns of changes in pandas."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("wfdb")


def write_record(wfdb: Any, folder: Path, name: str, leads: int = 2, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    signal = np.random.default_rng(seed).normal(0, 0.3, (length, leads)).round(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp(
            name, fs=RATE, units=["mV"] * leads, sig_name=[f"L{n}" for n in range(leads)], p_signal=signal,
            fmt=["16"] * leads, write_dir=str(folder),
        )  # fmt: skip
    return signal


def annotate(wfdb: Any, folder: Path, name: str, annotator: str, marks: list[tuple[int, str, str]]) -> Path:
    samples, symbols, notes = zip(*marks, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrann(
            name, annotator, np.array(samples), list(symbols), aux_note=list(notes), fs=RATE, write_dir=str(folder)
        )
    return folder / f"{name}.{annotator}"


RHYTHMS = [(50, "+", "(N"), (80, "N", ""), (300, "+", "(AFIB"), (350, "V", ""), (700, "+", "(N"), (900, "N", "")]
BEATS = [(100, "N", ""), (110, "V", ""), (500, "N", "")]
MARKED = [(100, "(", ""), (105, "p", ""), (110, ")", ""), (130, "(", ""), (135, "N", ""), (140, ")", "")]


def test_rhythms_last_until_the_next(wfdb: Any, tmp_path: Path) -> None:
    for number in range(3):
        write_record(wfdb, tmp_path, f"r{number}", seed=number)
        annotate(wfdb, tmp_path, f"r{number}", "atr", RHYTHMS)
        annotate(wfdb, tmp_path, f"r{number}", "qrs", BEATS)
    write_record(wfdb, tmp_path, "r9")
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["r0", "r1", "r2"]
    assert [case.id for case in found.unlabelled_cases] == ["r9"]
    assert found.layout == "3 recordings (WFDB) with annotations .atr, all 2 leads of each together"
    assert found.notes == (
        "3 of 4 recordings have annotations .atr, which are rhythms: each lasts until the next begins, and nobody "
        "judged what lies before the first",
        "annotations that are not used: .qrs (beats)",
    )
    assert found.class_names == {0: "N", 1: "AFIB"}
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert diagnosis.legend.names == ("N", "AFIB")
    label, _ = read_label(found.cases[0], diagnosis.legend)
    np.testing.assert_array_equal(label, np.repeat([IGNORE, 0, 1, 0], [50, 250, 400, 300]))
    with CaseReader(found.cases[0], PreparePlan(channels=2, colour="bands")) as reader:
        assert reader.read(reader.whole).shape == (2, LENGTH)


def test_waves_of_all_leads(wfdb: Any, tmp_path: Path) -> None:
    for number in range(2):
        write_record(wfdb, tmp_path, f"r{number}", seed=number)
        annotate(wfdb, tmp_path, f"r{number}", "pu", MARKED)
        annotate(wfdb, tmp_path, f"r{number}", "atr", RHYTHMS)
    found = discover(tmp_path)
    assert found.class_names == dict(enumerate(WAVES))
    assert found.notes[1] == "annotations that are not used: .atr (rhythms)"
    label, _ = read_label(found.cases[1], examine(found).legend)
    np.testing.assert_array_equal(np.flatnonzero(label == 2), np.arange(130, 141))
    assert discover(tmp_path, Reading(annotator="atr")).class_names == {0: "N", 1: "AFIB"}
    with pytest.raises(DataError) as error:
        discover(tmp_path, Reading(annotator="art"))
    assert str(error.value) == (
        f"{tmp_path}: there are no annotations .art beside the recordings; there are atr, pu; did you mean 'atr'?"
    )


def test_beats_are_moments_unless_they_are_given_a_width(wfdb: Any, tmp_path: Path) -> None:
    for number in range(2):
        write_record(wfdb, tmp_path, f"r{number}", seed=number)
        annotate(wfdb, tmp_path, f"r{number}", "atr", BEATS)
    with pytest.raises(
        DataError, match=r"r0.atr: these marks are beats, which are moments and no segments; give each a"
    ):
        discover(tmp_path)
    found = discover(tmp_path, Reading(beat_width=0.2))
    assert found.class_names == {0: "background", 1: "N", 2: "V"}
    label, _ = read_label(found.cases[0], examine(found).legend)
    expected = np.zeros(LENGTH, int)
    expected[90:105], expected[105:121], expected[490:511] = 1, 2, 1  # between two that are near, cut in the middle
    np.testing.assert_array_equal(label, expected)


def test_marks_that_count_by_another_rate(wfdb: Any, tmp_path: Path) -> None:
    write_record(wfdb, tmp_path, "r0")
    path = annotate(wfdb, tmp_path, "r0", "atr", RHYTHMS)
    assert read_marks(path).rate == RATE
    path.write_bytes(path.read_bytes().replace(b"resolution: 100", b"resolution: 200"))
    found = read_mark_words(path)
    np.testing.assert_array_equal(found.codes_X, np.repeat([-2, 1, 0, 1], [25, 125, 200, 650]))


def test_flutter_is_a_stretch(wfdb: Any, tmp_path: Path) -> None:
    write_record(wfdb, tmp_path, "r0")
    path = annotate(wfdb, tmp_path, "r0", "atr", [(10, "N", ""), (400, "[", ""), (600, "]", ""), (900, "[", "")])
    assert kind_of(read_marks(path)) == "flutter"
    found = read_mark_words(path)
    assert found.words == ("VF",)
    np.testing.assert_array_equal(found.codes_X, np.repeat([-1, 0, -1, 0], [400, 200, 300, 100]))


def test_marks_that_cannot_be_used(wfdb: Any, tmp_path: Path) -> None:
    write_record(wfdb, tmp_path, "r0")
    path = annotate(wfdb, tmp_path, "r0", "atr", [*RHYTHMS, (1200, "N", "")])
    with pytest.raises(
        DataError, match=r"r0.atr: a mark lies at sample 1200, but the recording has 1000; copy both again"
    ):
        read_mark_words(path)
    path = annotate(wfdb, tmp_path, "r0", "atr", [(5, '"', "a comment")])
    with pytest.raises(
        DataError, match=r"r0.atr: there are no waves, no rhythms and no beats in this file; leave it out"
    ):
        discover(tmp_path)


def test_long_recordings_are_read_by_region(wfdb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = write_record(wfdb, tmp_path, "r0", leads=3)
    with open_image(tmp_path / "r0.hea") as reader:
        whole = reader.read()
        assert (reader.info.axes, reader.info.unit, reader.info.channel_names) == ("T", "s", ("L0", "L1", "L2"))
    monkeypatch.setattr(records, "KEPT", 0)
    monkeypatch.setattr(records, "AT_ONCE", 100)
    with open_image(tmp_path / "r0.hea") as reader:
        np.testing.assert_array_equal(reader.read(Region((17,), (390,))), whole[:, 17:390])
    np.testing.assert_allclose(whole, signal.T, atol=1e-3)


def test_recordings_in_segments(wfdb: Any, tmp_path: Path) -> None:
    parts = [write_record(wfdb, tmp_path, f"r_{n}", length=500, seed=n) for n in range(2)]
    (tmp_path / "r.hea").write_text(f"r/2 2 {RATE} 1000\nr_0 500\nr_1 500\n")
    annotate(wfdb, tmp_path, "r", "atr", RHYTHMS)
    assert probe(tmp_path / "r.hea").channel_names == ("L0", "L1")
    with open_image(tmp_path / "r.hea") as reader:
        np.testing.assert_allclose(reader.read().T, np.concatenate(parts), atol=1e-3)
        np.testing.assert_allclose(reader.read(Region((490,), (510,))).T, np.concatenate(parts)[490:510], atol=1e-3)
    assert [path.name for path in files_behind(tmp_path / "r.hea")] == [
        "r.hea", "r_0.hea", "r_0.dat", "r_1.hea", "r_1.dat",
    ]  # fmt: skip
    assert [case.id for case in discover(tmp_path).cases] == ["r"]


def test_a_file_that_was_cut(wfdb: Any, tmp_path: Path) -> None:
    write_record(wfdb, tmp_path, "r0")
    data = tmp_path / "r0.dat"
    data.write_bytes(data.read_bytes()[:1500])
    with pytest.raises(DataError) as error:
        probe(tmp_path / "r0.hea")
    assert str(error.value) == (
        f"{data}: the file is truncated: it has 1500 bytes, and the 1000 samples that r0.hea speaks of take 4000; copy "
        "it again, or leave the recording out"
    )


def done(label: np.ndarray, names: tuple[str, ...], image: np.ndarray) -> Finished:
    classes = tuple(LegendClass(name=name, value=k, colour=(k, 0, 0)) for k, name in enumerate(names))
    return Finished(
        ImageInfo((len(label),), len(image), False, "float32", "bands", spacing=(1 / RATE,)),
        Legend(kind="values", classes=classes, background=0),
        lambda region: label[region.slices],
        None,
        lambda region: image[(slice(None), *region.slices)],
    )


def test_rhythms_and_waves_are_written_as_marks(wfdb: Any, tmp_path: Path) -> None:
    label = np.repeat([0, 1, 0, 1], [100, 300, 500, 100]).astype(np.uint8)
    image = np.zeros((3, LENGTH), np.float32)
    image[1, 250], image[2, 950] = 5, -4
    write_record(wfdb, tmp_path, "r")
    write_marks(tmp_path / "r.atr", done(label, ("N", "AFIB"), image))
    marks = read_marks(tmp_path / "r.atr")
    assert list(zip(marks.samples, marks.notes, strict=True)) == [
        (0, "(N"), (100, "(AFIB"), (400, "(N"), (900, "(AFIB"),
    ]  # fmt: skip
    np.testing.assert_array_equal(read_mark_words(tmp_path / "r.atr").codes_X, 1 - label)
    write_marks(tmp_path / "r.seg", done(label, ("background", "QRS"), image))
    marks = read_marks(tmp_path / "r.seg")
    assert list(zip(marks.samples, marks.symbols, strict=True)) == [
        (100, "("), (250, "N"), (399, ")"), (900, "("), (950, "N"), (999, ")"),
    ]  # fmt: skip
