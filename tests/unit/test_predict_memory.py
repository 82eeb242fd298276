"""A large image goes through in the memory that is allowed: measured on a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch

from unetkit.core.machine import parse_memory
from unetkit.nets.spec import NetSpec
from unetkit.predict import forecast
from unetkit.predict.forecast import allowed_memory, formula, tile_pixels

CPU = torch.device("cpu")

SCRIPT = textwrap.dedent(
    """
    import json
    import sys
    from pathlib import Path
    import torch
    from unetkit.core.events import drain
    from unetkit.core.machine import resident_memory
    from unetkit.data.labels.legend import Legend, LegendClass
    from unetkit.data.prepared.plan import PreparePlan
    from unetkit.nets.build import build
    from unetkit.nets.spec import NetSpec
    from unetkit.predict.forecast import high_water
    from unetkit.predict.model import Model
    from unetkit.predict.options import OutputOptions, PredictOptions
    from unetkit.predict.run import predict

    large, out, more, spec = sys.argv[1:]
    torch.set_num_threads(1)
    spec = NetSpec.parse(json.loads(spec), "the test")
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in range(spec.classes))
    legend = Legend(kind="values", classes=classes, background=0, reason="")
    model = Model(build(spec).eval(), legend, PreparePlan())
    options = PredictOptions(precision="fp32", memory=resident_memory() + int(more))
    said = []
    result = drain(predict(model, large, Path(out), options, OutputOptions(probabilities=True)), said.append)
    assert len(result.done) == 1, result
    (memory,) = [event.value for event in said if event.kind == "decided" and event.what == "memory"]
    print(options.memory, high_water(), memory, sep=";")
    """
)


def predicted(image: Path, out: Path, more: int, spec: dict[str, object]) -> tuple[int, int, int]:
    """Bytes allowed, the most that a process of its own held, and what it said beforehand."""
    command = [sys.executable, "-c", SCRIPT, image, out, str(more), json.dumps(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    allowed, peak, said = done.stdout.strip().split(";")
    return int(allowed), int(peak), parse_memory(said.partition(" expected")[0])


def test_a_large_tiff_stays_within_the_memory_allowed(tmp_path):
    # in one piece the network would take 1.4 GB for this image, its probabilities alone 72 MB
    side = 3000
    image = np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", image, tile=(256, 256), compression="zlib", compressionargs={"level": 1})
    spec = {"channels": [8, 8], "blocks": 1}
    allowed, peak, said = predicted(tmp_path / "large.tif", tmp_path / "out", 350_000_000, spec)
    assert peak <= allowed
    assert said == pytest.approx(peak, rel=0.15)
    with tifffile.TiffFile(tmp_path / "out" / "large.tif") as mask:
        assert mask.pages[0].shape == (side, side)
    with tifffile.TiffFile(tmp_path / "out" / "probabilities" / "large.tif") as scores:
        assert scores.series[0].shape == (2, side, side)


def test_many_classes_of_a_blended_volume_stay_within_it(tmp_path):
    # sums of all 20 classes would take 74 MB for the whole volume, and probabilities as much
    image = np.random.default_rng(0).normal(size=(120, 88, 88)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "volume.nii")
    spec = {"ndim": 3, "channels": [2, 4], "classes": 20, "blocks": 1, "norm": "instance"}
    allowed, peak, said = predicted(tmp_path / "volume.nii", tmp_path / "out", 300_000_000, spec)
    assert peak <= allowed
    assert said == pytest.approx(peak, rel=0.15)


def test_tiles_grow_with_the_memory_and_shrink_with_the_network():
    small, large = formula(NetSpec(channels=(16, 32)), "fp32"), formula(NetSpec(channels=(64, 128)), "fp32")
    sizes = [tile_pixels(room, small) for room in (10**8, 10**9, 4 * 10**9, 10**12)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 2048 * 2048
    assert tile_pixels(10**8, large) < tile_pixels(10**8, small)
    assert formula(NetSpec(channels=(64, 128)), "bf16") < large


def test_memory_that_is_not_asked_for_is_a_quarter_of_what_is_free(monkeypatch):
    monkeypatch.setattr(forecast, "free_memory", lambda: 8 * 10**9)
    monkeypatch.setattr(forecast, "resident_memory", lambda: 3 * 10**8)
    assert allowed_memory(None, CPU) == 2_300_000_000  # beside what the program holds itself
    assert allowed_memory(5 * 10**9, CPU) == 5 * 10**9
