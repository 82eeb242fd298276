"""Signals in CSV and Parquet: channels, time and label told by their names; data sets of them; what cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover, images_of
from unetkit.data.formats import contents, open_image, probe
from unetkit.data.formats.signals import csv_rows
from unetkit.data.formats.signals.columns import understand
from unetkit.data.labels.masks import read_label

RATE, LENGTH = 250, 1000


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (LENGTH, 2)).round(4)


def lines(label: list[str] | None = None, seed: int = 0, header: str = "time,ecg,resp") -> list[str]:
    rows = [f"{n / RATE:.3f},{a},{b}" for n, (a, b) in enumerate(values(seed))]
    if label is None:
        return [header, *rows]
    return [f"{header},label", *(f"{row},{word}" for row, word in zip(rows, label, strict=True))]


def save(path: Path, rows: list[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((end.join(rows) + end).encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_is_a_signal_read_by_region(tmp_path: Path, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "EVERY", 64)
    path = save(tmp_path / "a.csv", ["# device 7", *lines(), "", ""], end)
    info = probe(path)
    assert (info.shape, info.channels, info.dtype) == ((LENGTH,), 2, "float32")
    assert (info.spacing, info.axes, info.unit, info.channel_names) == ((1 / RATE,), "T", "s", ("ecg", "resp"))
    with open_image(path) as reader:
        np.testing.assert_array_equal(reader.read(), values().T.astype(np.float32))
        for start, stop in ((0, 1), (63, 65), (128, 192), (500, 1000), (999, 1000)):
            part = reader.read(Region((start,), (stop,)))
            np.testing.assert_array_equal(part, values()[start:stop].T.astype(np.float32))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.one_of(st.none(), st.integers(-99, 99)), min_size=2, max_size=2), min_size=3, max_size=40),
    st.integers(1, 9), st.sampled_from([",", ";", "\t"]), st.booleans(), st.integers(0, 3), st.data(),
)  # fmt: skip
def test_any_table_is_read_as_csv_reads_it(tmp_path_factory, cells, every, delimiter, last, blank, data) -> None:
    path = tmp_path_factory.mktemp("t") / "a.csv"
    rows = [delimiter.join("" if cell is None else str(cell) for cell in row) for row in [["u", "v"], *cells]]
    path.write_text("\n".join(rows) + ("\n" * (1 + blank) if last else ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "EVERY", every)
        with open_image(path) as reader:
            expected = np.array([[np.nan if c is None else c for c in row] for row in cells], np.float32).T
            np.testing.assert_array_equal(reader.read(), expected)
            start = data.draw(st.integers(0, len(cells) - 1))
            stop = data.draw(st.integers(start + 1, len(cells)))
            np.testing.assert_array_equal(reader.read(Region((start,), (stop,))), expected[:, start:stop])


@pytest.mark.parametrize(
    ("header", "first", "shape", "spacing", "names"),
    [
        ("t (ms),a", ["0,1", "4,2", "8,3"], (3,), 0.004, ("a",)),
        ("a,timestamp", ["1,2024-01-31T12:00:00.000", "2,2024-01-31T12:00:00.004"], (2,), 0.004, ("a",)),
        ("timestamp,a", ["1700000000000,1", "1700000000010,2"], (2,), 0.01, ("a",)),  # milliseconds since 1970
        ("sample,a", ["0,1", "1,2"], (2,), None, ("a",)),
        ("sample,seconds,a", ["0,0,1", "1,0.5,2"], (2,), 0.5, ("a",)),
        ("x,y,z", ["1,2,3", "4,5,6"], (2,), None, ("x", "y", "z")),
        ("1,2", ["3,4", "5,6"], (3,), None, ("channel 0", "channel 1")),  # no header
        ("time;a", ["0,0;1,5", "0,1;2,5"], (2,), 0.1, ("a",)),  # the comma of numbers
        ("time,a,b", ["0,,1", "1,,", "2,,4"], (3,), 1.0, ("a", "b")),  # gaps
        ("a,note", ["1,good", "2,bad"], (2,), None, ("a",)),
    ],
)
def test_columns_are_told_by_their_names(tmp_path: Path, header, first, shape, spacing, names) -> None:
    info = probe(save(tmp_path / "a.csv", [header, *first]))
    assert (info.shape, info.spacing, info.channel_names) == (shape, spacing and (spacing,), names)
    with open_image(tmp_path / "a.csv") as reader:
        assert reader.read().shape == (len(names), *shape)


def test_rates_are_whole_where_times_were_rounded(tmp_path: Path) -> None:
    rows = [f"{n / 360:.3f},1" for n in range(5000)]  # steps of 2 and 3 ms
    assert probe(save(tmp_path / "a.csv", ["time,a", *rows])).spacing == (1 / 360,)


def test_label_in_the_table(tmp_path: Path) -> None:
    for number, words in enumerate((("", "N", "AFIB"), ("N", "AFL", "N"), ("N", "AFIB", "AFL"))):
        label = [words[0]] * 200 + [words[1]] * 300 + [words[2]] * 500
        save(tmp_path / "data" / f"s{number}.csv", lines(label, number))
    found = discover(tmp_path / "data")
    assert found.layout == "3 signals (CSV), their labels inside"
    assert found.class_names == {1: "AFIB", 2: "AFL", 3: "N"}
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert diagnosis.legend.names == ("AFIB", "AFL", "N")
    label, _ = read_label(found.cases[0], diagnosis.legend)
    np.testing.assert_array_equal(label, np.repeat([IGNORE, 2, 0], [200, 300, 500]))
    assert images_of(tmp_path / "data") == [tmp_path / "data" / f"s{n}.csv" for n in range(3)]
    # a set with other classes: what a model knows counts, by name
    label = ["AFL"] * 400 + ["N"] * 600
    other = discover(save(tmp_path / "other" / "s9.csv", lines(label)).parent)
    assert other.class_names == {1: "AFL", 2: "N"}
    label, _ = read_label(other.cases[0], diagnosis.legend)
    np.testing.assert_array_equal(label, np.repeat([1, 2], [400, 600]))
    save(tmp_path / "other" / "s9.csv", lines(["AFL"] * 400 + ["VT"] * 600))
    with pytest.raises(
        DataError, match=r"s9.csv: 'VT' is none of the classes AFIB, AFL, N; rename it, or train a model"
    ):
        read_label(discover(tmp_path / "other").cases[0], diagnosis.legend)


def test_labels_that_are_numbers(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"s{number}.csv", lines(["0"] * 400 + ["2"] * 500 + [""] * 100, number))
    found = discover(tmp_path)
    assert found.class_names == {}
    diagnosis = examine(found)
    assert [entry.value for entry in diagnosis.legend.classes] == [0, 2]
    label, _ = read_label(found.cases[1], diagnosis.legend)
    np.testing.assert_array_equal(label, np.repeat([0, 1, IGNORE], [400, 500, 100]))


def test_parquet_is_read_by_row_groups(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    label = np.where(np.arange(LENGTH) < 400, "rest", "walk").tolist()
    label[:50] = [None] * 50
    for number in range(2):
        time = pa.array((np.arange(LENGTH) * 4_000_000).astype("datetime64[ns]"))
        a, b = values(number).T
        table = pa.table(
            {"timestamp": time, "x": a, "y": b.astype(np.float32), "z": (a * 100).astype(int), "class": label}
        )
        pq.write_table(table, tmp_path / f"s{number}.parquet", row_group_size=300)
    path = tmp_path / "s0.parquet"
    info = probe(path)
    assert (info.shape, info.spacing, info.channel_names) == ((LENGTH,), (0.004,), ("x", "y", "z"))
    with open_image(path) as reader:
        np.testing.assert_array_equal(reader.read()[0], values()[:, 0].astype(np.float32))
        np.testing.assert_array_equal(reader.read(Region((290,), (610,)))[1], values()[290:610, 1].astype(np.float32))
    assert [(item.address.name, item.label) for item in contents(path)] == [("s0.parquet", False), ("class", True)]
    found = discover(tmp_path)
    assert found.class_names == {1: "rest", 2: "walk"}
    read, _ = read_label(found.cases[0], examine(found).legend)
    np.testing.assert_array_equal(read, np.repeat([IGNORE, 0, 1], [50, 350, 600]))


def test_tables_of_other_things_are_no_signals(tmp_path: Path) -> None:
    save(tmp_path / "a.csv", ["onset,duration,label", "1,2,x"])
    save(tmp_path / "b.csv", ["sample,value,class", "0,1,x"])
    save(tmp_path / "c.csv", ["name,comment", "x,y"])
    with pytest.raises(DataError, match="no images in this folder, only 3 × "):
        discover(tmp_path)
    with pytest.raises(DataError, match=r"c.csv: there is no channel: of its columns name, comment none but time and"):
        probe(tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({500: "1.996,0.1"}, r"a.csv, line 501: 2 cells, but the table has 3 columns; mend the line, or export"),
        ({500: "1.996,0.1,0.2,0.3"}, r"a.csv, line 501: 4 cells, but the table has 3 columns"),
        ({500: ""}, r"a.csv, line 501: the line is blank, but the table has 3 columns"),
        (
            {500: "1.996,oops,0.2"},
            r"a.csv, line 501: 'oops' in the column 'ecg' is no number; mend it, or leave the cell",
        ),
        ({500: "soon,1,2"}, r"a.csv, line 501: 'soon' in the column 'time' is no number"),
        ({500: ",1,2"}, r"a.csv, line 501: there is no time; fill it in, or leave the column out"),
        (
            {500: None, 501: None},
            r"a.csv, line 501: the time goes from 1.992 to 2.004 s, 2 steps of 0.004 s too far: 2 samples are missing; "
            "add rows with empty values",
        ),
        (
            {500: "1.992,1,2"},
            r"a.csv, line 501: the time goes from 1.992 to 1.992 s; sort the rows by time, one row for",
        ),
        (
            {500: "1.9935,1,2"},
            r"a.csv, line 501: the time goes from 1.992 to 1.9935 s, where steps are 0.004 s; resample",
        ),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, change: dict[int, str | None], message: str) -> None:
    rows: list[str | None] = list(lines())
    for number, text in change.items():
        rows[number] = text
    save(tmp_path / "a.csv", [row for row in rows if row is not None])
    with pytest.raises(DataError, match=message), open_image(tmp_path / "a.csv") as reader:
        reader.read()


def test_a_time_that_drifts(tmp_path: Path) -> None:
    times = np.cumsum(np.linspace(0.004, 0.005, 3000))
    save(tmp_path / "a.csv", ["time,a", *(f"{t:.6f},1" for t in times)])
    with pytest.raises(
        DataError, match=r"a.csv: the steps of the time change, from 0.0040\d+ to 0.0048\d+ s; resample the"
    ):
        probe(tmp_path / "a.csv")


def test_files_that_are_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"name": ["x", "y"], "label": ["1", "2"]}), path)
    with pytest.raises(
        DataError, match=r"a.parquet: there is no channel: of its columns name, label none but time and"
    ):
        probe(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a.parquet: the file is truncated or damaged \("):
        probe(path)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DataError, match=r"b.csv: this is not a text file in UTF-8; save the table as CSV \(UTF-8\)"):
        probe(tmp_path / "b.csv")
    with pytest.raises(
        DataError, match=r"c.csv: the columns label and class could both be the label; keep one of them"
    ):
        understand(Path("c.csv"), ["a", "label", "class"], [True] * 3)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError) as error:
        probe(tmp_path / "a.parquet")
    assert str(error.value) == (
        "Parquet files are read by the pyarrow package, which is not installed: pip install 'unetkit[signals]'"
    )


def test_signals_in_a_table_of_images_and_masks(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"s{number}.csv", lines(["a"] * 400 + ["b"] * 600, number))
        save(tmp_path / f"e{number}.tsv", ["onset\tduration\tlabel", "0\t1.6\ta", "1.6\t2.4\tb"])
    save(tmp_path / "set.csv", ["image,mask", "s0.csv,e0.tsv", "s1.csv,s1.csv", "s2.csv,e2.tsv"])
    found = discover(tmp_path / "set.csv")
    assert found.class_names == {1: "a", 2: "b"}
    legend = examine(found).legend
    for case in found.cases:
        np.testing.assert_array_equal(read_label(case, legend)[0], np.repeat([0, 1], [400, 600]))
    assert images_of(str(tmp_path / "s*.csv")) == [tmp_path / f"s{n}.csv" for n in range(3)]
