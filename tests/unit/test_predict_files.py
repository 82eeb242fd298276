"""Many files in, many files out: names, values, skipping, bad files, full disks."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core import files
from unetkit.core.errors import DataError, MachineError, RunError, SpecError
from unetkit.core.events import drain
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.plan import PreparePlan
from unetkit.data.prepared.prepare import CaseReader
from unetkit.nets.build import build
from unetkit.nets.spec import NetSpec
from unetkit.predict import overlay
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.predictor import ArrayReader, Predictor
from unetkit.predict.run import PredictResult, predict

FP32 = PredictOptions(precision="fp32")


def legend(*values, kind: str = "values") -> Legend:
    shown = itertools.cycle([(0, 0, 0), (230, 159, 0), (86, 180, 233)])
    classes = [LegendClass(name=f"class {v}", value=v, colour=next(shown)) for v in values]
    return Legend(kind=kind, classes=tuple(classes), background=0)


def model(*values, kind: str = "values", prepare: PreparePlan | None = None) -> Model:
    prepare = prepare or PreparePlan()
    net = build(NetSpec(channels=(4, 6), classes=len(values), in_channels=prepare.channels, blocks=1), seed=3)
    return Model(net.eval(), legend(*values, kind=kind), prepare)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def images(tmp_path) -> Path:
    for number in range(3):
        save(tmp_path / "images" / f"a{number}.png", noise(30 + number, 41, seed=number))
    return tmp_path / "images"


def run(what: Model, source, out: Path, **outputs: bool) -> tuple[PredictResult, list]:
    events: list = []
    result = drain(predict(what, source, out, FP32, OutputOptions(**outputs)), events.append)
    return result, events


def listing(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_masks_have_the_names_sizes_and_values_of_the_set(tmp_path):
    source = tmp_path / "in"
    save(source / "b.png", noise(20, 33))
    save(source / "c.jpg", noise(25, 31, 3))
    save(source / "d.bmp", noise(17, 16))
    tifffile.imwrite(source / "e.tif", noise(40, 24).astype(np.uint16) * 9, compression="zlib")
    result, events = run(model(7, 130, 255), source, tmp_path / "out")
    assert listing(tmp_path / "out") == ["b.png", "c.png", "d.png", "e.tif"]
    assert [p.name for p in result.done] == ["b.png", "c.png", "d.png", "e.tif"]
    for name, shape in (("b.png", (20, 33)), ("c.png", (25, 31)), ("d.png", (17, 16))):
        mask = np.array(Image.open(tmp_path / "out" / name))
        assert mask.shape == shape
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {7, 130, 255}
    assert tifffile.imread(tmp_path / "out" / "e.tif").shape == (40, 24)
    kinds = [event.kind for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "done"
    assert events[-1].message == "4 images predicted"
    assert [e.fraction for e in events if e.kind == "progress"][-1] == 1
    assert [Path(e.path).name for e in events if e.kind == "saved"] == ["b.png", "c.png", "d.png", "e.tif"]


def test_masks_are_what_the_predictor_says(tmp_path, images):
    m = model(0, 255)
    run(m, images / "a1.png", tmp_path / "out")
    with CaseReader(images / "a1.png", m.prepare) as reader:
        label = Predictor(m.net, FP32).array(reader.read(reader.whole))
    assert 0 < label.mean() < 1
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "a1.png")), label * 255)


def test_colours_and_large_values(tmp_path, images):
    run(model((0, 0, 0), (255, 0, 10), kind="colours"), images / "a0.png", tmp_path / "colours")
    mask = np.array(Image.open(tmp_path / "colours" / "a0.png"))
    assert mask.shape == (30, 41, 3)
    assert {tuple(c) for c in mask.reshape(-1, 3).tolist()} <= {(0, 0, 0), (255, 0, 10)}
    run(model(0, 3000), images / "a0.png", tmp_path / "deep")
    assert set(np.unique(np.array(Image.open(tmp_path / "deep" / "a0.png")))) <= {0, 3000}
    run(model(0, 70_000), images / "a0.png", tmp_path / "deeper")
    assert listing(tmp_path / "deeper") == ["a0.tif"]  # a PNG ends at 16 bits
    assert set(np.unique(tifffile.imread(tmp_path / "deeper" / "a0.tif"))) <= {0, 70_000}


def test_probabilities_and_overlay(tmp_path, images, monkeypatch):
    monkeypatch.setattr(overlay, "LONGEST", 16)
    m = model(0, 100, 200)
    run(m, images, tmp_path / "out", probabilities=True, overlay=True)
    assert listing(tmp_path / "out") == [
        *(f"a{i}.png" for i in range(3)),
        *(f"overlays/a{i}.png" for i in range(3)),
        *(f"probabilities/a{i}.tif" for i in range(3)),
    ]
    stack = tifffile.imread(tmp_path / "out" / "probabilities" / "a2.tif")
    assert stack.shape == (3, 32, 41)
    assert stack.dtype == np.float16
    np.testing.assert_allclose(stack.astype(np.float32).sum(0), 1, atol=2e-3)
    mask = np.array(Image.open(tmp_path / "out" / "a2.png"))
    clear = np.sort(stack.astype(np.float32), 0)[-1] - np.sort(stack.astype(np.float32), 0)[-2] > 2e-3
    np.testing.assert_array_equal((stack.argmax(0) * 100)[clear], mask[clear])
    drawn = np.array(Image.open(tmp_path / "out" / "overlays" / "a2.png"))
    assert drawn.shape == (11, 14, 3)  # every third pixel


def test_an_overlay_shows_the_image_where_there_is_background_and_outlines_the_rest():
    picture = np.linspace(-1, 1, 100, dtype=np.float32).reshape(1, 10, 10)
    label = np.zeros((10, 10), np.uint8)
    label[3:8, 3:8] = 1
    drawn = overlay.draw(picture, label, legend(0, 255))
    assert drawn.shape == (3, 10, 10)
    assert (drawn[0, 0] == drawn[1, 0]).all()  # grey
    assert tuple(drawn[:, 3, 3]) == (230, 159, 0)  # the outline
    assert tuple(drawn[:, 5, 5]) != (230, 159, 0)  # inside, the image shines through
    assert drawn[0, 5, 5] > drawn[2, 5, 5]


def test_a_second_run_skips_what_is_done(tmp_path, images):
    m, out = model(0, 255), tmp_path / "out"
    run(m, images, out)
    (out / "a1.png").unlink()
    (out / f".a1-x{files.PARTIAL}.png").write_bytes(b"left by a killed process")
    before = {name: (out / name).stat().st_mtime_ns for name in ("a0.png", "a2.png")}
    result, events = run(m, images, out)
    assert [p.name for p in result.done] == ["a1.png"]
    assert [p.name for p in result.skipped] == ["a0.png", "a2.png"]
    assert events[-1].message == "1 image predicted; 2 images done before (--overwrite predicts them again)"
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}
    assert listing(out) == ["a0.png", "a1.png", "a2.png"]
    assert [p.name for p in run(m, images, out, overwrite=True)[0].done] == ["a0.png", "a1.png", "a2.png"]
    # what was not asked for before is missing now
    assert len(run(m, images, out, probabilities=True)[0].done) == 3
    assert len(run(m, images, out, probabilities=True)[0].skipped) == 3


def test_a_bad_file_among_good_ones(tmp_path, images):
    whole = (images / "a1.png").read_bytes()
    (images / "a1.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.png").write_bytes(b"")
    result, events = run(model(0, 255), images, tmp_path / "out", probabilities=True, overlay=True)
    assert [p.name for p in result.done] == ["a0.png", "a2.png"]
    assert [Path(name).name for name, _ in result.failed] == ["a1.png", "empty.png"]
    assert all(str(name) in message for name, message in result.failed)
    assert "truncated or damaged" in result.failed[0][1]
    assert "the file is empty (0 bytes)" in result.failed[1][1]
    assert [e.message for e in events if e.kind == "warned"] == [message for _, message in result.failed]
    assert events[-1].message == (
        f"2 images predicted; 2 images could not be predicted: {images / 'a1.png'}, {images / 'empty.png'}"
    )
    assert [n for n in listing(tmp_path / "out") if "a1" in n or "empty" in n] == []


def test_an_image_that_memory_cannot_hold_is_a_bad_file(tmp_path, images, monkeypatch):
    whole = CaseReader.read

    def read(self, region):
        if self.name.endswith("a1.png"):
            raise MemoryError
        return whole(self, region)

    monkeypatch.setattr(CaseReader, "read", read)
    result, _ = run(model(0, 255), images, tmp_path / "out")
    assert len(result.done) == 2
    assert result.failed[0][1] == (
        f"{images / 'a1.png'}: memory does not suffice to hold this image; save it as a tiled TIFF, which is read in "
        "parts"
    )


def test_an_image_with_other_channels_is_a_bad_file(tmp_path, images):
    tifffile.imwrite(images / "a5.tif", noise(5, 20, 20), photometric="minisblack", planarconfig="separate")
    bands = PreparePlan(channels=1, colour="bands")
    result, _ = run(model(0, 255, prepare=bands), images, tmp_path / "out")
    assert len(result.done) == 3
    assert "a5.tif: the image has 5 channels" in result.failed[0][1]


def test_nothing_to_predict(tmp_path):
    with pytest.raises(DataError, match="there is no image to predict; name a file, a folder of images, or a pattern"):
        run(model(0, 255), [], tmp_path / "out")
    with pytest.raises(DataError, match="nowhere"):
        run(model(0, 255), tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_images_of_one_name_are_refused_before_anything_starts(tmp_path, images):
    save(images / "a0.bmp", noise(10, 10))
    message = r"a0\.\w+ and .*a0\.\w+ would both be written to .*a0\.png; rename one of them, or predict them into"
    with pytest.raises(DataError, match=message):
        run(model(0, 255), images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_results_are_not_written_among_the_images(tmp_path, images):
    before = listing(images)
    with pytest.raises(DataError, match="would be written among the images themselves; choose another folder with -o"):
        run(model(0, 255), images, images)
    assert listing(images) == before


def test_cases_keep_their_folders_and_their_channel_files(tmp_path):
    paths = tuple(save(tmp_path / "in" / f"x_000{i}.png", noise(20, 20, seed=i)) for i in range(2))
    m = model(0, 255, prepare=PreparePlan(channels=2, colour="bands"))
    run(m, [Case("rat1/x", paths)], tmp_path / "out")
    assert listing(tmp_path / "out") == ["rat1/x.png"]


def test_a_full_disk_ends_the_run_and_leaves_no_half_file(tmp_path, images, monkeypatch):
    m, out = model(0, 255), tmp_path / "out"
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 2:  # the first image's file and folder
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    message = r"a1\.png: the disk is full; free some space and run the same command again"
    with pytest.raises(MachineError, match=message):
        run(m, images, out)
    assert listing(out) == ["a0.png"]
    monkeypatch.undo()
    result, _ = run(m, images, out)
    assert len(result.done) == 2
    assert len(result.skipped) == 1


def test_a_folder_where_another_process_writes_is_left_alone(tmp_path, images):
    with files.locked(tmp_path / "out"), pytest.raises(RunError, match="another process is at work in this folder"):
        run(model(0, 255), images, tmp_path / "out")


def test_progress_within_a_large_image(tmp_path, monkeypatch):
    from unetkit.predict import run as run_module

    monkeypatch.setattr(run_module, "_REPORT_EVERY", 0.0)
    save(tmp_path / "in" / "wide.png", noise(50, 200))
    events: list = []
    options = PredictOptions(precision="fp32", tile=(32,))
    drain(predict(model(0, 255), tmp_path / "in", tmp_path / "out", options), events.append)
    fractions = [e.fraction for e in events if e.kind == "progress"]
    assert len(fractions) > 5
    assert fractions == sorted(fractions)
    assert all(e.eta is not None and e.eta >= 0 for e in events if e.kind == "progress")
    (tiles,) = [e for e in events if e.kind == "decided" and e.what == "tiles"]
    assert " of 32 × 32 pixels" in tiles.value
    assert "is computed twice, for the seams" in tiles.why


def test_what_is_to_be_said_of_every_image_is_said_of_three(tmp_path):
    for number in range(5):
        save(tmp_path / "in" / f"a{number}.png", noise(30, 30, seed=number))
    what = model(0, 255, prepare=PreparePlan(spacing=(1.5, 1.5), unit="mm"))
    _, events = run(what, tmp_path / "in", tmp_path / "out")
    said = [e.message for e in events if e.kind == "warned"]
    assert [message.partition(": ")[0][-6:] for message in said] == ["a0.png", "a1.png", "a2.png"]
    assert all("its spacing is not known: it is taken to be 1.5 × 1.5 mm" in message for message in said)
    assert said[2].endswith(" (and so it may be with further images: it is not said again)")


def test_settings_that_cannot_be():
    net = model(0, 255).net
    with pytest.raises(MachineError, match=r"--device cuda:7: this machine has cpu.*; choose one of them, or auto"):
        Predictor(net, PredictOptions(device="cuda:7"))
    with pytest.raises(SpecError, match=r"tile \(8, 8, 8\) has 3 sides, the image 2 axes; give one side or all"):
        Predictor(net, PredictOptions(precision="fp32", tile=(8, 8, 8))).array(np.zeros((1, 9, 9), np.float32))
    with pytest.raises(SpecError, match=r"the network takes 1 channel\(s\), this image has 2"):
        Predictor(net, FP32).array(np.zeros((2, 9, 9), np.float32))
    with pytest.raises(SpecError, match="the network takes images with 2 axes, this one has 3"):
        Predictor(net, FP32).array(np.zeros((1, 9, 9, 9), np.float32))


def test_too_little_memory_is_said(monkeypatch):
    net = model(0, 255).net
    predictor = Predictor(net, PredictOptions(precision="fp32", memory=2000))
    assert "2.0 kB of memory cannot be kept to: the program itself holds " in predictor.decisions[1].message
    assert " or more" in predictor.decisions[1].message
    planned = predictor.plan(ArrayReader(np.zeros((1, 500, 500), np.float32)))
    (warned,) = [event.message for event in predictor.remarks(planned) if event.kind == "warned"]
    assert warned.startswith("2.0 kB of memory is little for this network and image: tiles of 14 × 14 pixels may need ")
    assert warned.endswith("; allow more with --memory")

    def refuse(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(predictor.runner, "_run", refuse)
    with pytest.raises(
        MachineError, match=r"memory does not suffice for a tile of .* pixels; allow less with --memory"
    ):
        predictor.array(np.zeros((1, 50, 50), np.float32))


def test_precision_is_chosen_by_a_trial_and_said():
    (decided,) = Predictor(model(0, 255).net).decisions
    assert decided.value in ("fp32", "bf16")
    assert "ms in fp32" in decided.why
    (decided,) = Predictor(model(0, 255).net, FP32).decisions
    assert (decided.value, decided.why) == ("fp32", "as asked, or as the run was trained")
