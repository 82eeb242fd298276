"""Intervals of signals: tables of them are labels; predictions are written as them, and read again are the same."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.errors import DataError
from unetkit.data.case import WordLabel
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover
from unetkit.data.formats.base import ImageInfo
from unetkit.data.formats.signals.intervals import is_interval_table, read_intervals
from unetkit.data.formats.signals.rows import write_mask_rows
from unetkit.data.labels.legend import UNANNOTATED, Legend, LegendClass
from unetkit.data.labels.masks import read_label
from unetkit.data.labels.words import numbered, read_word_label, read_words
from unetkit.evaluate import evaluate_folders
from unetkit.predict import intervals as module
from unetkit.predict.finished import Finished
from unetkit.predict.intervals import write_intervals

RATE = 100


def info(length: int = 1000, rate: float | None = RATE) -> ImageInfo:
    return ImageInfo((length,), 1, False, "float32", "grey", spacing=rate and (1 / rate,))


def table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def runs(label: np.ndarray) -> list[tuple[int, int, int]]:
    """(value, first sample, the sample behind the last) of every run of one value."""
    edges = [0, *(np.flatnonzero(np.diff(label)) + 1).tolist(), len(label)]
    return [(int(label[a]), a, b) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    "rows",
    [
        ("onset,duration,label", "1,2,b", "4,0.5,a"),
        ("start,end,label", "1,3,b", "4,4.5,a"),
        ("onset\tduration\ttrial_type", "1\t2\tb", "4\t0.5\ta"),  # BIDS
        ("onset,offset,duration,class,probability", "1,3,2,b,0.9", "4,4.5,0.5,a,0.8"),
        ("start (ms),stop (ms),annotation", "1000,3000,b", "4000,4500,a"),
        ("start_sample,end_sample,label", "100,300,b", "400,450,a"),
        ("label;from;to", "b;1;2", "b;2;3", "a;4;4.5"),  # intervals that meet
        ("onset,duration,label", "1,1.5,b", "2,1,b", "4,0.5,a", ""),  # of one class, overlapping
    ],
)
def test_tables_of_intervals(tmp_path: Path, rows: tuple[str, ...]) -> None:
    path = table(tmp_path / "a.csv", *rows)
    assert is_interval_table(path)
    label, names = read_intervals(path, info())
    assert names == {0: "background", 1: "a", 2: "b"}
    assert runs(label) == [(0, 0, 100), (2, 100, 300), (0, 300, 400), (1, 400, 450), (0, 450, 1000)]


def test_an_interval_holds_the_samples_that_lie_in_it(tmp_path: Path) -> None:
    label, _ = read_intervals(table(tmp_path / "a.csv", "onset,duration,label", "1.001,0.02,x"), info())
    assert np.flatnonzero(label).tolist() == [101, 102]
    label, _ = read_intervals(table(tmp_path / "a.csv", "start,end", "0,10.004"), info())  # rounded beyond the end
    assert label.all()


def test_what_nobody_judged(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "onset,duration,label", "0,2,unannotated", "2,3,x", "5,1,Stage ?")
    found = read_words(path, info())
    values, names = numbered([found])
    assert (values, names) == ({"x": 1}, {0: "background", 1: "x"})
    label, _ = read_word_label(WordLabel(path, tuple(values.items())), info())
    expected = np.repeat([UNANNOTATED, 1, UNANNOTATED, 0], [200, 300, 100, 400])
    np.testing.assert_array_equal(label, expected)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (("a,b", "1,2"), "a table of intervals has columns such as onset, duration and label, or start, end and label"),
        (("start,end,label", "9,12,x"), r"line 2: the interval 'x' \(9 … 12 s\) lies beyond the signal, which has 1000 "
                                        r"samples \(10 s\); check that it belongs to this signal, and the unit"),
        (("start,end,label", "-1,2,x"), r"line 2: the interval 'x' \(-1 … 2 s\) lies beyond the signal"),
        (("start,end,label", "1,4,x", "3,5,y"), r"line 2 and line 3: 'x' \(1 … 4 s\) and 'y' \(3 … 5 s\) overlap, but a"
                                                " sample has one class; cut one of them"),
        (("start,end,label", "4,2,x"), r"line 2: the interval ends \(2\) before it begins \(4\); mend it"),
        (("start,end,label", "soon,2,x"), "line 2: 'soon' is no time; write numbers, in seconds or in samples"),
        (("start,end,label", "1,2"), "line 2: 2 cells, but the table has 3 columns; mend it"),
        (("onset,duration,label", "1,0,x", "2,n/a,y"), "all its 2 rows are moments without a duration; a label needs"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used(tmp_path: Path, rows: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=rf"a.csv(, |: ){message}"):
        read_intervals(table(tmp_path / "a.csv", *rows), info())


def test_seconds_need_a_rate(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "start,end,label", "1,2,x")
    with pytest.raises(
        DataError, match=r"a.csv: its intervals are in seconds, but the signal does not tell its sampling"
    ):
        read_intervals(path, info(rate=None))
    path = table(tmp_path / "a.csv", "start_sample,end_sample,label", "1,2,x")
    assert read_intervals(path, info(rate=None))[0][:3].tolist() == [0, 1, 0]


LEGEND = Legend(
    kind="values",
    classes=tuple(
        LegendClass(name=name, value=value, colour=(value, 0, 0))
        for name, value in (("background", 0), ("a", 1), ("b", 2))
    ),
    background=0,
)


def finished(label: np.ndarray, rate: float | None = RATE, scores: bool = False) -> Finished:
    kept = np.stack([np.where(label == k, 0.8, 0.1) for k in range(3)]).astype(np.float32)
    return Finished(
        info(len(label), rate),
        LEGEND,
        lambda region: label[region.slices],
        (lambda region: kept[(slice(None), *region.slices)]) if scores else None,
        None,
    )


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=12),
    st.sampled_from([None, 100, 360, 1000 / 3]), st.integers(1, 40),
)  # fmt: skip
def test_intervals_that_are_written_are_read_again(tmp_path_factory, parts, rate, at_once) -> None:
    label = np.concatenate([np.full(length, value, np.uint8) for value, length in parts])
    path = tmp_path_factory.mktemp("i") / "a.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", at_once)
        write_intervals(path, finished(label, rate))
    found, _ = read_intervals(path, info(len(label), rate), {"a": 1, "b": 2})
    np.testing.assert_array_equal(found, label)


def test_what_is_written(tmp_path: Path) -> None:
    label = np.repeat([0, 1, 2, 0, 2], [100, 50, 25, 25, 10]).astype(np.uint8)
    write_intervals(tmp_path / "a.csv", finished(label, scores=True))
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"onset": "1", "offset": "1.5", "duration": "0.5", "class": "a", "probability": "0.8000"}
    assert [(row["onset"], row["class"]) for row in rows] == [("1", "a"), ("1.5", "b"), ("2", "b")]
    write_intervals(tmp_path / "b.csv", finished(label, rate=None))
    assert (tmp_path / "b.csv").read_text().splitlines()[:2] == [
        "onset_sample,offset_sample,duration_sample,class",
        "100,150,50,a",
    ]
    image = Finished(ImageInfo((4, 4), 1, False, "uint8", "grey"), LEGEND, lambda r: label[:1], None, None)
    with pytest.raises(DataError, match=r"c.csv: intervals are written of signals, and this has 2 axes"):
        write_intervals(tmp_path / "c.csv", image)


def test_annotations_of_edf(tmp_path: Path) -> None:
    edfio = pytest.importorskip("edfio")
    label = np.repeat([0, 1, 2], [100, 50, 25]).astype(np.uint8)
    write_intervals(tmp_path / "a.edf", finished(label))
    assert [tuple(a) for a in edfio.read_edf(tmp_path / "a.edf").annotations] == [(1.0, 0.5, "a"), (1.5, 0.25, "b")]
    found = read_words(tmp_path / "a.edf", info(len(label)))
    np.testing.assert_array_equal(found.codes_X, np.repeat([-1, 0, 1], [100, 50, 25]))
    with pytest.raises(
        DataError, match=r"b.edf: annotations of EDF\+ are in seconds, and the signal does not tell its"
    ):
        write_intervals(tmp_path / "b.edf", finished(label, rate=None))


def test_intervals_label_arrays(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"s{number}.npy", np.random.default_rng(number).normal(size=500).astype(np.float32))
        table(tmp_path / f"s{number}.csv", "start_sample,end_sample,label", "100,200,x", f"300,{350 + number},y")
    found = discover(tmp_path)
    assert found.class_names == {0: "background", 1: "x", 2: "y"}
    diagnosis = examine(found)
    assert not diagnosis.stops
    label, _ = read_label(found.cases[2], diagnosis.legend)
    assert runs(label.astype(int))[1:] == [(1, 100, 200), (0, 200, 300), (2, 300, 352), (0, 352, 500)]


def test_a_label_of_another_length(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / "masks"
        folder.mkdir(exist_ok=True)
        (tmp_path / "images").mkdir(exist_ok=True)
        np.save(tmp_path / "images" / f"s{number}.npy", np.zeros(500, np.float32) + number)
        rows = [f"{n},{n > 100:d}" for n in range(500 if number else 480)]
        table(folder / f"s{number}.csv", "sample,value", *rows)
    found = examine(discover(tmp_path)).findings
    assert [f.message for f in found if f.severity == "error"] == ["the mask is 480 samples, its image s0.npy 500"]


def test_predictions_are_scored_by_the_names_of_their_classes(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    label = np.repeat([0, 1, 2], [100, 50, 350])
    for number in range(2):
        np.save(data / f"s{number}.npy", np.random.default_rng(number).normal(size=500).astype(np.float32))
        table(data / f"s{number}.csv", "start_sample,end_sample,label", "100,150,b", "150,500,c")
        # a model that knows more classes has other numbers for them
        write_mask_rows(out / f"s{number}.csv", label * 5, {0: "background", 5: "b", 10: "c"}, None)
    assert evaluate_folders(out, data).mean("dice").mean == 1
    write_mask_rows(out / "s0.csv", label, {0: "background", 1: "b", 2: "d"}, None)
    with pytest.raises(DataError, match=r"s0.csv: its class 'd' is none of the truth \(background, b, c\); evaluate"):
        evaluate_folders(out, data)
