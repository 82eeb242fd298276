"""A large image goes through in the memory that is allowed: measured on a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import tifffile
import torch

from unetkit.nets.spec import NetSpec
from unetkit.predict import forecast
from unetkit.predict.forecast import allowed_memory, formula, tile_pixels

CPU = torch.device("cpu")

SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    from unetkit.core.events import drain
    from unetkit.core.machine import resident_memory
    from unetkit.data.legend import Legend, LegendClass
    from unetkit.data.prepare import PreparePlan
    from unetkit.nets.build import build
    from unetkit.nets.spec import NetSpec
    from unetkit.predict.model import Model
    from unetkit.predict.options import OutputOptions, PredictOptions
    from unetkit.predict.run import predict

    small, large, out, more, channels = sys.argv[1:]
    torch.set_num_threads(1)
    spec = NetSpec(channels=tuple(int(n) for n in channels.split(",")), blocks=1)
    classes = tuple(LegendClass(name=str(v), value=v, colour=(v, v, v)) for v in (0, 255))
    legend = Legend(kind="values", classes=classes, background=0, reason="")
    model = Model(build(spec).eval(), legend, PreparePlan())
    outputs = OutputOptions(probabilities=True)
    drain(predict(model, small, Path(out), PredictOptions(precision="fp32"), outputs))  # loads every library
    options = PredictOptions(precision="fp32", memory=resident_memory() + int(more))
    result = drain(predict(model, large, Path(out), options, outputs))
    assert len(result.done) == 1, result
    # not getrusage: its peak starts at that of the process that started this one
    status = Path("/proc/self/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1]) * 1024
    print(f"{peak - options.memory} bytes more than allowed")
    """
)


def test_a_large_tiff_stays_within_the_memory_allowed(tmp_path):
    # in one piece the network would take 1.4 GB for this image, its probabilities alone 72 MB
    side, more = 3000, 150_000_000
    image = np.random.default_rng(0).integers(0, 255, (side, side), np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", image, tile=(256, 256), compression="zlib", compressionargs={"level": 1})
    tifffile.imwrite(tmp_path / "small.tif", image[:64, :64], tile=(32, 32), compression="zlib")
    paths = [tmp_path / name for name in ("small.tif", "large.tif", "out")]
    command = [sys.executable, "-c", SCRIPT, *paths, str(more), "8,8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) < 0.1 * more, done.stdout
    with tifffile.TiffFile(tmp_path / "out" / "large.tif") as mask:
        assert mask.pages[0].shape == (side, side)
    with tifffile.TiffFile(tmp_path / "out" / "probabilities" / "large.tif") as scores:
        assert scores.series[0].shape == (2, side, side)


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
