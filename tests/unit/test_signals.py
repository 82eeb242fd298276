"""WFDB recordings: leads and their marked waves as a data set; masks of signals as CSV and as marks."""

from __future__ import annotations

import csv
import itertools
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.errors import DataError, MachineError
from unetkit.core.events import drain
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover, images_of
from unetkit.data.formats import open_image, probe
from unetkit.data.formats.base import ImageInfo
from unetkit.data.formats.signals.records import UNMARKED, WAVES, read_waves
from unetkit.data.formats.signals.rows import read_mask_rows, write_mask_rows
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.labels.masks import read_label, read_raw_label
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.prepared.store import prepare_cases
from unetkit.data.source import open_case
from unetkit.data.split import leaks, read_split, split_cases, write_split
from unetkit.evaluate import evaluate_folders
from unetkit.job.understand import digest
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict.finished import Finished
from unetkit.predict.marks import write_marks
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.outputs import plan_jobs
from unetkit.predict.predictor import Predictor
from unetkit.predict.products import write_products
from unetkit.predict.run import predict

LENGTH, RATE = 600, 250
BEAT = [(20, "("), (26, "p"), (30, ")"), (40, "("), (45, "N"), (50, ")"), (70, "("), (82, "t"), (90, ")")]


@pytest.fixture
def wfdb() -> Any:
    """The package, whose import warns of changes in pandas."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("wfdb")


def write_record(wfdb: Any, folder: Path, name: str, marks: dict[str, list[tuple[int, str]]], seed: int = 0) -> None:
    """A recording of the leads i and II, with marks of the leads that are named."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal = np.random.default_rng(seed).normal(0, 0.3, (LENGTH, 2)).round(3)
        wfdb.wrsamp(
            name, fs=RATE, units=["mV"] * 2, sig_name=["i", "II"], p_signal=signal, fmt=["16"] * 2,
            write_dir=str(folder),
        )  # fmt: skip
        for lead, found in marks.items():
            samples, symbols = zip(*found, strict=True)
            wfdb.wrann(name, lead, np.array(samples), list(symbols), fs=RATE, write_dir=str(folder))


def beats(*starts: int) -> list[tuple[int, str]]:
    return [(start + n, symbol) for start in starts for n, symbol in BEAT]


@pytest.fixture
def folder(wfdb: Any, tmp_path: Path) -> Path:
    for number in range(4):
        marks = {"i": beats(100, 300)} | ({"ii": beats(110, 310)} if number else {})
        write_record(wfdb, tmp_path / "data", f"r{number}", marks, number)
    return tmp_path / "data"


def test_a_recording_is_an_image_with_one_axis(folder: Path) -> None:
    info = probe(folder / "r1.hea")
    assert (info.shape, info.channels, info.spacing) == ((LENGTH,), 2, (1 / RATE,))
    with open_image(folder / "r1.hea") as reader:
        whole = reader.read()
        np.testing.assert_array_equal(reader.read(Region((20,), (70,))), whole[:, 20:70])
    expected = np.random.default_rng(1).normal(0, 0.3, (LENGTH, 2)).round(3)
    np.testing.assert_allclose(whole.T, expected, atol=1e-3)


def test_every_marked_lead_is_a_case_and_every_recording_a_group(folder: Path, tmp_path: Path) -> None:
    found = discover(folder)
    assert [case.id for case in found.cases] == ["r0/i", "r1/i", "r1/II", "r2/i", "r2/II", "r3/i", "r3/II"]
    assert [case.id for case in found.unlabelled_cases] == ["r0/II"]
    assert found.cases[2].group == "r1"
    assert found.cases[2].channel == 1
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert diagnosis.legend.names == WAVES
    assert diagnosis.groups.reason == "4 groups as given"
    assert diagnosis.survey.counts == (7 * (271 - 2 * 43), 7 * 22, 7 * 22, 7 * 42)
    messages = [finding.message for finding in diagnosis.findings]
    assert (
        "4 recordings with 7 leads whose waves are marked; the leads of a recording stay on one side of the split"
        in messages
    )
    for seed in range(5):
        split = split_cases(found.cases, diagnosis.groups, diagnosis.label_counts, seed)
        assert not leaks(split, diagnosis.groups)
        assert len({i.split("/")[0] for i in split.val}) == 1
    write_split(tmp_path / "split.csv", found.cases, split)
    assert read_split(tmp_path / "split.csv", found.cases).val == split.val


def test_leads_are_read_one_by_one(folder: Path, tmp_path: Path) -> None:
    found = discover(folder)
    legend = examine(found).legend
    prepared = prepare_cases(found.cases, legend, PreparePlan(), 0, tmp_path)
    with open_image(folder / "r1.hea") as reader:
        lead = reader.read()[1]
    case = prepared[2]
    assert case.image_CX.shape == (1, LENGTH)
    assert case.spacing == (1 / RATE,)
    np.testing.assert_allclose(case.image_CX[0], (lead - lead.mean()) / lead.std(), atol=1e-4)
    label = case.label_X
    assert set(np.unique(label)) == {0, 1, 2, 3, IGNORE}
    assert (label[:130] == IGNORE).all()  # nobody judged what lies before the first marked wave
    assert (label[130:141] == 1).all()
    assert (label[141:150] == 0).all()
    assert (label[401:] == IGNORE).all()


def test_the_doctor_speaks_of_samples(wfdb: Any, folder: Path) -> None:
    lame = [*beats(100), (300, "N"), (320, ")"), (350, "("), (360, ")"), (400, "("), (410, "t")]
    write_record(wfdb, folder, "r9", {"i": lame}, 9)
    said = {(f.code, Path(f.file).name): f for f in examine(discover(folder)).findings}
    assert said["missing-mask", "r9.hea (II)"].message == "the lead has no marked waves"
    notes = [f.message for f in examine(discover(folder)).findings if f.file.endswith("r9.i")]
    assert notes == [
        "2 waves have a peak at or beyond the onset or offset", "1 wave has no peak, and nothing is learned from it",
    ]  # fmt: skip


def marked(wfdb: Any, folder: Path, marks: list[tuple[int, str]]) -> tuple[np.ndarray, tuple[str, ...]]:
    write_record(wfdb, folder, "m", {"i": marks})
    label, info, notes = read_waves(folder / "m.i")
    assert info.shape == label.shape == (LENGTH,)
    return label, notes


def runs(label: np.ndarray) -> list[tuple[int, int, int]]:
    """(value, first, last) of every run of one value."""
    edges = [0, *(np.flatnonzero(np.diff(label.astype(int))) + 1), len(label)]
    return [(int(label[a]), int(a), int(b) - 1) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("marks", "waves"),
    [
        ([(10, "("), (12, "N"), (15, ")")], [(2, 10, 15)]),
        ([(10, "N"), (12, "("), (15, ")")], [(2, 10, 15)]),  # the peak came out before the onset
        ([(10, "N"), (15, ")")], [(2, 10, 15)]),  # onset and peak were one sample
        ([(10, "("), (12, ")"), (15, "V")], [(2, 10, 15)]),  # the peak came out behind the offset; any kind of beat
        ([(10, "("), (15, "p"), (20, "("), (25, "t"), (30, ")")], [(1, 10, 15), (0, 16, 19), (3, 20, 30)]),
        (
            [(10, "("), (12, "p"), (15, ")"), (20, "("), (25, ")"), (30, "("), (35, "t"), (40, ")")],
            [(1, 10, 15), (0, 16, 19), (UNMARKED, 20, 25), (0, 26, 29), (3, 30, 40)],
        ),
    ],
)
def test_marks_become_waves(
    wfdb: Any, tmp_path: Path, marks: list[tuple[int, str]], waves: list[tuple[int, int, int]]
) -> None:
    label, _ = marked(wfdb, tmp_path, marks)
    assert runs(label)[1:-1] == waves
    assert runs(label)[0][0] == runs(label)[-1][0] == UNMARKED


def test_marks_that_are_no_waves(wfdb: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m.i: no wave is marked; marks are \( onset, p, N or t peak, \) offset; here"):
        marked(wfdb, tmp_path, [(10, "N"), (200, "N")])
    with pytest.raises(DataError, match=r"m.i: a mark lies at sample 800, but the recording has 600; copy both again"):
        marked(wfdb, tmp_path, [*beats(10), (800, "(")])


def test_recordings_that_cannot_be_used(wfdb: Any, tmp_path: Path) -> None:
    write_record(wfdb, tmp_path, "a", {})
    with pytest.raises(DataError) as error:
        discover(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no lead of the 1 recordings has marks of its waves; those of the lead i of a.hea would be in a.i "
        "beside it"
    )
    with pytest.raises(DataError, match=r"a.dat: this is a part of a recording; name its header, a.hea"):
        probe(tmp_path / "a.dat")
    (tmp_path / "a.dat").unlink()
    with pytest.raises(
        DataError, match=r"a.hea: its signals are in a.dat, which is not here; copy it beside the header"
    ):
        probe(tmp_path / "a.hea")
    (tmp_path / "b.hea").write_text("nonsense")
    with pytest.raises(DataError, match=r"b.hea: the file is truncated or damaged"):
        probe(tmp_path / "b.hea")


def test_without_the_package_one_line_installs_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(MachineError) as error:
        discover(folder)
    assert str(error.value) == (
        "recordings are read by the wfdb package, which is not installed: pip install 'unetkit[signals]'"
    )


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30)), min_size=1, max_size=12))
def test_waves_that_are_written_are_read_again(tmp_path_factory, parts: list[tuple[int, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("wfdb")
    folder = tmp_path_factory.mktemp("w")
    label = np.concatenate([np.full(length, value, np.uint8) for value, length in parts])
    (folder / "x.hea").write_text(f"x 0 {RATE} {len(label)}\n")
    classes = tuple(LegendClass(name=name, value=k, colour=(k, 0, 0)) for k, name in enumerate(WAVES))
    info = ImageInfo((len(label),), 1, False, "float32", "grey", spacing=(1 / RATE,))
    legend = Legend(kind="values", classes=classes, background=0)
    signal = np.arange(len(label), dtype=np.float32)[None]
    done = Finished(info, legend, lambda r: label[r.slices], None, lambda r: signal[(slice(None), *r.slices)])
    write_marks(folder / "x.ii", done)
    if not label.any():
        with pytest.raises(DataError, match="no wave is marked"):
            read_waves(folder / "x.ii")
        return
    found, info, _ = read_waves(folder / "x.ii")
    inside = slice(*(np.flatnonzero(label)[[0, -1]] + [0, 1]))
    np.testing.assert_array_equal(found[inside], label[inside])
    assert info.spacing == (1 / RATE,)


def part(values: np.ndarray, region: Region) -> np.ndarray:
    return values[:, region.slices[0]]


def predict_truth(folder: Path, out: Path, **outputs: bool) -> Legend:
    """Write the truth of every marked lead as its prediction, background where nothing is marked."""
    found = discover(folder)
    legend = examine(found).legend
    jobs = {job.name: job for job in plan_jobs(images_of(folder), out, legend, OutputOptions(**outputs))}
    for case in found.cases:
        label, _ = read_label(case, legend)
        label = np.where(label == IGNORE, 0, label).astype(np.uint8)
        scores = np.stack([label == k for k in range(4)]).astype(np.float32)
        job = jobs[case.id]
        with open_case(job.case) as lead:
            labels, shares = partial(part, label[None]), partial(part, scores)
            finished = Finished(lead.info, legend, lambda region, of=labels: of(region)[0], shares, lead.read)
            list(write_products(job, finished, 10**8))
    return legend


def test_masks_of_leads_are_rows_and_marks(wfdb: Any, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_truth(folder, out, probabilities=True)
    with (out / "r1" / "II.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == LENGTH
    assert rows[150] == {"sample": "150", "seconds": "0.6", "value": "2", "class": "QRS"}
    with (out / "probabilities" / "r1" / "II.csv").open() as file:
        assert list(csv.DictReader(file))[150] == {
            "sample": "150", "seconds": "0.6", "background": "0.0000", "P": "0.0000", "QRS": "1.0000", "T": "0.0000",
        }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        marks = wfdb.rdann(str(out / "marks" / "r1"), "II")
    assert [s for n, s in zip(marks.sample, marks.symbol, strict=True)] == [
        "(",
        "p",
        ")",
        "(",
        "N",
        ")",
        "(",
        "t",
        ")",
    ] * 2
    assert marks.sample[0] == 130
    scores = evaluate_folders(out, folder)
    assert len(scores.cases) == 7
    assert scores.by_group
    assert scores.mean("dice").mean == scores.mean("boundary_f1").mean == 1
    found = read_mask_rows(out / "r1" / "II.csv")
    write_mask_rows(out / "r1" / "II.csv", np.where(found == 3, 0, found), dict(enumerate(WAVES)), None)
    assert evaluate_folders(out, folder).class_mean("dice", 3).mean == pytest.approx(6 / 7)
    np.testing.assert_array_equal(read_raw_label(out / "r1" / "II.csv") == 3, False)


def test_recordings_are_predicted_lead_by_lead(folder: Path, tmp_path: Path) -> None:
    spec = NetSpec(ndim=1, channels=(4, 6), classes=4, in_channels=1, blocks=1)
    model = Model(build(spec, seed=3).eval(), examine(discover(folder)).legend, PreparePlan())
    options = PredictOptions(precision="fp32")
    result = drain(predict(model, folder / "r1.hea", tmp_path / "out", options))
    assert [path.relative_to(tmp_path / "out").as_posix() for path in result.done] == ["r1/i.csv", "r1/II.csv"]
    with CaseReader(discover(folder).cases[1], model.prepare) as reader:
        expected = Predictor(model.net, options).array(reader.read(reader.whole))
    np.testing.assert_array_equal(read_mask_rows(tmp_path / "out" / "r1" / "i.csv"), expected)
    assert len(drain(predict(model, folder, tmp_path / "out", options)).skipped) == 2


def test_the_digest_of_a_set_sees_the_signals(wfdb: Any, folder: Path) -> None:
    cases = discover(folder).cases
    before = digest(cases)
    data = bytearray((folder / "r2.dat").read_bytes())
    data[10] ^= 1
    (folder / "r2.dat").write_bytes(data)
    assert digest(cases) != before


def test_what_is_said_of_signals(folder: Path, tmp_path: Path) -> None:
    legend = examine(discover(folder)).legend
    with pytest.raises(DataError) as error:
        plan_jobs(images_of(folder), tmp_path / "out", legend, OutputOptions(overlay=True))
    assert str(error.value) == (
        f"{folder}/r0.hea (i): overlays are drawn of images and volumes, and this is a signal; leave --overlay out, "
        "and plot r0/i.csv beside it"
    )
    predict_truth(folder, tmp_path / "out")
    path = tmp_path / "out" / "r1" / "i.csv"
    lines = path.read_text().splitlines()
    for text, message in (
        (
            lines[:500],
            f"{path} is 499 samples but its truth {folder}/r1.i is 600 samples; predict the image that the mask",
        ),
        (lines[:5] + lines[6:], f"{path}, line 6: this is sample 5, but 4 follows; keep a row per sample"),
        ([*lines[:5], "4,0.016,x,P"], f"{path}, line 6: sample and value are whole numbers, not 4, 0.016, x, P"),
    ):
        path.write_text("\n".join(text) + "\n")
        with pytest.raises(DataError) as error:
            evaluate_folders(tmp_path / "out", folder)
        assert message in str(error.value)


def test_real_recordings(wfdb: Any, shared_data) -> None:
    found = discover(shared_data("ecg"))
    assert len(found.cases) == 80 * 12
    assert len({case.group for case in found.cases}) == 80
    case = next(case for case in found.cases if case.id == "7/ii")
    with CaseReader(case, PreparePlan()) as reader:
        assert (reader.shape, reader.spacing) == ((5000,), (0.002,))
    label = read_raw_label(case.label)  # type: ignore[arg-type]
    assert set(np.unique(label)) == {0, 1, 2, 3, UNMARKED}
    assert 0.05 < (label == UNMARKED).mean() < 0.6
    assert 0.03 < (label == 2).sum() / (label != UNMARKED).sum() < 0.25
