"""EDF and BDF: signals by region in physical units, annotations as labels, what is said of unusable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover, images_of
from unetkit.data.formats import open_image, probe
from unetkit.data.formats.signals.edf import Annotation, read_annotations
from unetkit.data.labels.masks import read_label

RATE, SECONDS = 64, 20


@pytest.fixture
def edfio():
    return pytest.importorskip("edfio")


def write(edfio, path: Path, notes=(), rates=(RATE,), seed: int = 0) -> np.ndarray:
    """A recording of SECONDS with a signal for each rate; its samples (of the first), as they were stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    bdf = path.suffix == ".bdf"
    signal = edfio.BdfSignal if bdf else edfio.EdfSignal
    signals = [
        signal(draw.normal(0, 40, SECONDS * rate), sampling_frequency=rate, label=f"EEG {n}", physical_dimension="uV")
        for n, rate in enumerate(rates)
    ]
    (edfio.Bdf if bdf else edfio.Edf)(signals, annotations=[edfio.EdfAnnotation(*note) for note in notes]).write(path)
    return signals[0].data


SLEEP = ((0, 5, "W"), (5, 10, "N2"), (7.5, None, "noise"), (15, 5, "Sleep stage ?"))


def test_a_recording_is_read_by_region(edfio, tmp_path: Path) -> None:
    stored = write(edfio, tmp_path / "a.edf", SLEEP, rates=(RATE, RATE))
    info = probe(tmp_path / "a.edf")
    assert (info.shape, info.channels, info.dtype) == ((RATE * SECONDS,), 2, "float32")
    assert (info.spacing, info.axes, info.unit, info.channel_names) == ((1 / RATE,), "T", "s", ("EEG 0", "EEG 1"))
    with open_image(tmp_path / "a.edf") as reader:
        whole = reader.read()
        np.testing.assert_array_equal(reader.read(Region((100,), (333,))), whole[:, 100:333])
    np.testing.assert_allclose(whole[0], stored, rtol=1e-5, atol=1e-3)


def test_slow_signals_are_held(edfio, tmp_path: Path) -> None:
    write(edfio, tmp_path / "a.edf", rates=(RATE, 8))
    info = probe(tmp_path / "a.edf")
    assert info.notes == ("EEG 1: sampled at 8 Hz, held between samples up to 64 Hz",)
    with open_image(tmp_path / "a.edf") as reader:
        slow = reader.read(Region((4,), (28,)))[1]
    assert [len(set(part)) for part in (slow[:4], slow[4:12], slow[12:20], slow[20:])] == [1, 1, 1, 1]
    write(edfio, tmp_path / "b.edf", rates=(RATE, 10))
    with pytest.raises(DataError) as error:
        probe(tmp_path / "b.edf")
    assert str(error.value) == (
        f"{tmp_path}/b.edf: its signals have sampling rates of which the highest is no multiple of the others: 64 Hz "
        "(EEG 0); 10 Hz (EEG 1); export it with one rate, or leave signals out"
    )


def test_annotations_that_last_are_the_label(edfio, tmp_path: Path) -> None:
    for number in range(3):
        write(edfio, tmp_path / f"night{number}.edf", SLEEP, seed=number)
    assert read_annotations(tmp_path / "night0.edf")[2] == Annotation(7.5, None, "noise")
    found = discover(tmp_path)
    assert found.layout == "3 signals (EDF), their labels inside"
    assert found.class_names == {1: "N2", 2: "W"}
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert diagnosis.legend.names == ("N2", "W")
    assert diagnosis.legend.background is None
    label, _ = read_label(found.cases[0], diagnosis.legend)
    expected = np.repeat([1, 0, 255], [5 * RATE, 10 * RATE, 5 * RATE])  # what ends in ? nobody judged
    np.testing.assert_array_equal(label, expected)
    said = [f.message for f in diagnosis.findings if f.file.endswith("night0.edf")]
    assert said == ["1 annotation without a duration: moments are not used"]


def test_labels_beside_the_signal(edfio, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(edfio, tmp_path / f"sub-{name}_eeg.edf")
        (tmp_path / f"sub-{name}_events.tsv").write_text(
            "onset\tduration\ttrial_type\n1.0\t2.5\tseizure\n4\tn/a\tclick\n10\t1\tseizure\n"
        )
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["sub-a_eeg", "sub-b_eeg"]
    assert found.class_names == {0: "background", 1: "seizure"}
    label, _ = read_label(found.cases[1], examine(found).legend)
    assert np.flatnonzero(np.diff(label)).tolist() == [63, 223, 639, 703]
    assert images_of(tmp_path) == [tmp_path / "sub-a_eeg.edf", tmp_path / "sub-b_eeg.edf"]


def test_a_file_of_annotations_belongs_to_the_recording_of_its_night(edfio, tmp_path: Path) -> None:
    for night in ("SC4001", "SC4002"):
        write(edfio, tmp_path / f"{night}E0-PSG.edf")
        notes = [edfio.EdfAnnotation(0, 12, "Sleep stage W"), edfio.EdfAnnotation(12, 100, "Sleep stage ?")]
        edfio.Edf([], annotations=notes).write(tmp_path / f"{night}EC-Hypnogram.edf")
    found = discover(tmp_path)
    assert [case.mask_where.name for case in found.cases] == ["SC4001EC-Hypnogram.edf", "SC4002EC-Hypnogram.edf"]
    assert [path.name for path in images_of(tmp_path)] == ["SC4001E0-PSG.edf", "SC4002E0-PSG.edf"]
    with pytest.raises(
        DataError, match=r"Hypnogram.edf: this file holds annotations and no signal; name the recording"
    ):
        probe(tmp_path / "SC4001EC-Hypnogram.edf")


def test_recordings_that_cannot_be_used(edfio, tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    write(edfio, path, [(1.5, None, "click")])
    with pytest.raises(DataError) as error:
        discover(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: none of the 1 signals has a label; the annotations of 1 are moments without a duration, and no "
        "segments. A label is a table of onset,duration,label beside the signal (a_events.csv for a.edf), annotations "
        "of EDF+ that last some time, or a column called label in a CSV or Parquet file"
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(DataError, match=r"a.edf: the file is truncated: \d+ of its 20 data records are here; copy or"):
        probe(path)
    for part in (whole[:100], b"nonsense" * 60):
        path.write_bytes(part)
        with pytest.raises(
            DataError, match=r"a.edf: the file is truncated or damaged \(it does not begin with the head"
        ):
            probe(path)
    path.write_bytes(whole[:236] + b"abc     " + whole[244:])
    with pytest.raises(DataError, match=r"a.edf: the file is truncated or damaged \(invalid literal for int\(\)"):
        probe(path)


def test_gaps_are_named(edfio, tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    write(edfio, path, [(1, 2, "x")])
    raw = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    path.write_bytes(raw)
    assert probe(path).shape == (RATE * SECONDS,)  # called interrupted, and is not
    path.write_bytes(raw.replace(b"+17\x14\x14", b"+19\x14\x14").replace(b"+18\x14\x14", b"+20\x14\x14"))
    with pytest.raises(DataError, match=r"a.edf: the recording is interrupted \(EDF\+D\): behind 17 s time is missing"):
        probe(path)
