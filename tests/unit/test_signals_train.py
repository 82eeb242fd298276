"""Sets of signals in every format, through the plain verbs: checked, trained, predicted, scored; a few steps each."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unetkit as uk
from unetkit.data.formats.signals.mark_files import read_marks
from unetkit.data.formats.signals.rows import read_mask_rows
from unetkit.predict.options import OutputOptions

RATE, LENGTH, COUNT = 50, 640, 4
SETTINGS = {"net.channels": [4, 8], "machine.threads": 1, "sampling.patch": [128]}


def request(steps: int = 4, **changes: Any) -> uk.Request:
    return uk.Request(**({"steps": steps, "precision": "fp32", "settings": SETTINGS} | changes))


def signal(seed: int) -> tuple[np.ndarray, list[tuple[int, int, str]]]:
    """Two channels of noise, and two stretches in which they are higher: "rest", then "walk"."""
    draw = np.random.default_rng(seed)
    first, second = int(draw.integers(50, 200)), int(draw.integers(320, 480))
    spans = [(first, first + 90, "rest"), (second, second + 120, "walk")]
    values = draw.normal(0, 0.2, (LENGTH, 2))
    for start, stop, word in spans:
        values[start:stop] += {"rest": 1, "walk": 2}[word]
    return values.round(4), spans


def words(spans: list[tuple[int, int, str]]) -> list[str]:
    label = ["background"] * LENGTH
    for start, stop, word in spans:
        label[start:stop] = [word] * (stop - start)
    return label


def table(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n")


def make_edf(folder: Path, number: int) -> None:
    edfio = pytest.importorskip("edfio")
    values, spans = signal(number)
    pad = RATE * -(-LENGTH // RATE) - LENGTH
    signals = [
        edfio.EdfSignal(np.pad(v, (0, pad), "edge"), sampling_frequency=RATE, label=f"c{n}")
        for n, v in enumerate(values.T)
    ]
    notes = [edfio.EdfAnnotation(start / RATE, (stop - start) / RATE, word) for start, stop, word in spans]
    edfio.Edf(signals, annotations=notes).write(folder / f"s{number}.edf")


def make_csv(folder: Path, number: int) -> None:
    values, spans = signal(number)
    rows = [f"{n / RATE:.2f},{a},{b},{w}" for n, ((a, b), w) in enumerate(zip(values, words(spans), strict=True))]
    table(folder / f"s{number}.csv", "time,a,b,label", rows)


def make_parquet(folder: Path, number: int) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    values, spans = signal(number)
    columns = {"time": np.arange(LENGTH) / RATE, "a": values[:, 0], "b": values[:, 1], "label": words(spans)}
    parquet.write_table(pa.table(columns), folder / f"s{number}.parquet", row_group_size=200)


def make_npy(folder: Path, number: int) -> None:
    values, spans = signal(number)
    for part in ("images", "masks"):
        (folder / part).mkdir(exist_ok=True)
    np.save(folder / "images" / f"s{number}.npy", values.T.astype(np.float32))
    codes = {"background": 0, "rest": 1, "walk": 2}
    np.save(folder / "masks" / f"s{number}.npy", np.array([codes[word] for word in words(spans)], np.uint8))


def make_intervals(folder: Path, number: int) -> None:
    values, spans = signal(number)
    np.save(folder / f"s{number}.npy", values[:, 0].astype(np.float32))
    rows = [f"{start},{stop},{word}" for start, stop, word in spans]
    table(folder / f"s{number}.csv", "start_sample,end_sample,label", rows)


def make_wfdb(folder: Path, number: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wfdb = pytest.importorskip("wfdb")
        values, spans = signal(number)
        wfdb.wrsamp(
            f"s{number}", fs=RATE, units=["mV"] * 2, sig_name=["a", "b"], p_signal=values, fmt=["16"] * 2,
            write_dir=str(folder),
        )  # fmt: skip
        ends = [(0, "(N"), *((n, f"({w}") for s, e, word in spans for n, w in ((s, word), (e, "N")))]
        samples, notes = zip(*ends, strict=True)
        wfdb.wrann(
            f"s{number}", "atr", np.array(samples), ["+"] * len(ends), aux_note=list(notes), fs=RATE,
            write_dir=str(folder),
        )  # fmt: skip


@pytest.mark.parametrize("make", [make_edf, make_csv, make_parquet, make_npy, make_intervals, make_wfdb])
def test_a_set_of_signals_becomes_a_model(make: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(COUNT):
        make(data, number)
    diagnosis = uk.check(data)
    assert not diagnosis.stops, diagnosis.findings
    run = uk.train(data, tmp_path / "run", request())
    plan = run.plan
    assert plan.net.ndim == 1
    assert plan.net.in_channels == (1 if make is make_intervals else 2)
    named = {"npy": ("background", "class 1", "class 2"), "wfdb": ("N", "rest", "walk")}
    assert plan.data.legend.names == named.get(make.__name__[5:], ("background", "rest", "walk"))
    out = tmp_path / "out"
    result = uk.predict(run.path, data, out, outputs=OutputOptions(probabilities=True, intervals=True))
    assert not result.failed
    assert len(result.done) == COUNT
    if make in (make_npy, make_intervals):  # arrays stay arrays
        assert np.load(out / "s0.npy").shape == (LENGTH,)
    else:
        assert LENGTH <= len(read_mask_rows(out / "s0.csv")) <= LENGTH + RATE
    with (out / "intervals" / "s0.csv").open() as file:
        known = {"make_npy": "onset_sample", "make_intervals": "onset_sample"}.get(make.__name__, "onset")
        assert next(csv.reader(file))[0] == known
    if make is make_wfdb:  # one file of marks for all leads
        assert set(read_marks(out / "marks" / "s0.seg").notes) <= {"(N", "(rest", "(walk"}
    scores = uk.evaluate(out, data)
    assert len(scores.cases) == COUNT
    of_run = uk.evaluate(run.path, data)
    for k in range(3):
        assert of_run.class_mean("dice", k).mean == pytest.approx(scores.class_mean("dice", k).mean, nan_ok=True)


def test_signals_of_several_rates_are_learnt_at_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(COUNT):
        values, spans = signal(number)
        rate = RATE * (1 + number % 2)
        values, label = (np.repeat(part, 1 + number % 2, axis=0) for part in (values, np.array(words(spans))))
        rows = [f"{n / rate:.2f},{a},{w}" for n, ((a, _), w) in enumerate(zip(values, label, strict=True))]
        table(data / f"s{number}.csv", "time,a,label", rows)
    assert "mixed-spacing" in {finding.code for finding in uk.check(data).findings}
    run = uk.train(data, tmp_path / "run", request())
    uk.predict(run.path, data, tmp_path / "out")
    assert [len(read_mask_rows(tmp_path / "out" / f"s{n}.csv")) for n in range(COUNT)] == [LENGTH, 2 * LENGTH] * 2
