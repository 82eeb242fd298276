"""Signals as the reader libraries give them: wfdb in every plain format, edfio, pyarrow; the same values and labels."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.core.region import Region
from unetkit.data.formats import open_image
from unetkit.data.formats.signals import records
from unetkit.data.formats.signals.edf import read_annotations
from unetkit.data.formats.signals.mark_files import read_marks


@pytest.fixture
def wfdb() -> Any:
    """The package, whose import warns of changes in pandas."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("wfdb")


def parts(path: Path, length: int, seed: int) -> np.ndarray:
    """The whole image, read in regions that meet."""
    edges = np.unique([0, length, *np.random.default_rng(seed).integers(1, length, 5)]).tolist()
    with open_image(path) as reader:
        return np.concatenate([reader.read(Region((a,), (b,))) for a, b in itertools.pairwise(edges)], axis=1)


@pytest.mark.parametrize(("form", "size"), [
    ("16", 1806), ("212", 1355), ("80", 903), ("24", 2709), ("32", 3612), ("61", 1806), ("160", 1806), ("310", 1204),
    ("311", 1204),
])  # fmt: skip
@pytest.mark.parametrize("kept", [True, False])
def test_recordings_are_what_wfdb_reads(
    wfdb: Any, form: str, size: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr(records, "KEPT", 0)
        monkeypatch.setattr(records, "AT_ONCE", 64)
    leads = "".join(f"r.dat {form} 200(7)/mV 12 0 0 0 0 {name}\n" for name in "abc")
    (tmp_path / "r.hea").write_text(f"r 3 360 301\n{leads}")
    (tmp_path / "r.dat").write_bytes(np.random.default_rng(int(form)).bytes(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = wfdb.rdrecord(str(tmp_path / "r")).p_signal.T.astype(np.float32)
    np.testing.assert_array_equal(parts(tmp_path / "r.hea", 301, 0), expected)


def test_compressed_recordings(wfdb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("soundfile")
    monkeypatch.setattr(records, "KEPT", 0)
    digital = np.random.default_rng(8).integers(-100, 100, (3000, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrsamp(
            "r", fs=360, units=["mV"] * 2, sig_name=["a", "b"], d_signal=digital, fmt=["516"] * 2,
            adc_gain=[200.0] * 2, baseline=[7] * 2, write_dir=str(tmp_path),
        )  # fmt: skip
        expected = wfdb.rdrecord(str(tmp_path / "r")).p_signal.T.astype(np.float32)
    np.testing.assert_array_equal(parts(tmp_path / "r.hea", 3000, 0), expected)


@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_edf_is_what_edfio_reads(kind: str, tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    draw = np.random.default_rng(3)
    signal = {"edf": edfio.EdfSignal, "bdf": edfio.BdfSignal}[kind]
    signals = [
        signal(draw.normal(9 * n, 50, 7 * 128), sampling_frequency=128, label=f"s{n}", physical_range=(-900, 700 + n))
        for n in range(3)
    ]
    notes = [edfio.EdfAnnotation(draw.uniform(0, 6), draw.choice([None, 0.5, 1.25]), f"é {n}") for n in range(40)]
    path = tmp_path / f"a.{kind}"
    {"edf": edfio.Edf, "bdf": edfio.Bdf}[kind](signals, annotations=notes).write(path)
    read = {"edf": edfio.read_edf, "bdf": edfio.read_bdf}[kind](path)
    found = parts(path, 7 * 128, 1)
    for row, one in zip(found, read.signals, strict=True):
        np.testing.assert_allclose(row, one.data, rtol=1e-6, atol=1e-4)
    assert [tuple(a) for a in read_annotations(path)] == [
        (round(a.onset, 9), a.duration, a.text) for a in read.annotations
    ]


def test_tables_are_what_pyarrow_reads(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    draw = np.random.default_rng(5)
    columns = {"time": np.arange(500) / 250, **{f"c{n}": draw.normal(size=500).round(6) for n in range(4)}}
    table = pa.table(columns | {"c4": pa.array([None if n % 7 == 0 else n for n in range(500)], pa.int32())})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=77)
    csv.write_csv(table, tmp_path / "a.csv")
    expected = np.stack([table[name].to_numpy().astype(np.float32) for name in table.column_names[1:]])
    for name in ("a.parquet", "a.csv"):
        np.testing.assert_array_equal(parts(tmp_path / name, 500, 2), expected)
        with open_image(tmp_path / name) as reader:
            assert reader.info.spacing == (1 / 250,)


def test_real_recordings(wfdb: Any, shared_data: Any) -> None:
    header = shared_data("ecg") / "7.hea"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = wfdb.rdrecord(str(header.with_suffix(""))).p_signal.T.astype(np.float32)
    np.testing.assert_array_equal(parts(header, 5000, 4), expected)


def marks_by(wfdb: Any, path: Path) -> list[tuple[int, str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = wfdb.rdann(str(path.with_suffix("")), path.suffix[1:])
    notes = (note.strip("\x00 \n") for note in found.aux_note)
    return list(zip(found.sample.tolist(), found.symbol, notes, strict=True))


def ours(path: Path) -> list[tuple[int, str, str]]:
    found = read_marks(path)
    return list(zip(found.samples, found.symbols, found.notes, strict=True))


def test_marks_are_what_wfdb_reads(wfdb: Any, tmp_path: Path) -> None:
    draw = np.random.default_rng(6)
    steps = draw.choice([1, 7, 300, 1023, 1024, 70_000, 3_000_000], 400)
    symbols = draw.choice(list('NLRaVFJASEj/Q~|sT*D"=pB^t+u?![]en@xf()r'), 400).tolist()
    notes = draw.choice(["", "", "(AFIB", "x", "a longer note, of 31 characters"], 400).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb.wrann(
            "r", "atr", np.cumsum(steps), symbols, aux_note=notes, subtype=draw.integers(0, 9, 400),
            chan=draw.integers(0, 3, 400), num=draw.integers(0, 5, 400), write_dir=str(tmp_path),
        )  # fmt: skip
    assert ours(tmp_path / "r.atr") == marks_by(wfdb, tmp_path / "r.atr")


def test_real_marks(wfdb: Any, shared_data: Any) -> None:
    for name in ("7.ii", "8.v5", "34.v1", "1.avr"):
        assert ours(shared_data("ecg") / name) == marks_by(wfdb, shared_data("ecg") / name)
