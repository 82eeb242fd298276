"""What `unetkit predict --memory 2GB` holds for images that never fit: forecast and measured, each in a process.

    python benchmarks/memory.py FOLDER [--small] [--only slide,zarr,scan] [--memory 2GB]

Makes three images in FOLDER (where they are not there yet; 8 GB of disk), and a run folder with a small network of
random weights for each: what is measured is memory, not segmentation.

    slide   40,000 × 40,000 RGB, tiled TIFF, 2 classes
    zarr    1,000 × 1,000 × 1,000 uint8, Zarr, 20 classes
    scan    512 × 512 × 800 int16, gzipped NIfTI, 3 classes, 0.8 × 0.8 × 1 mm resampled to 1.2 × 1.2 × 1.5 mm and back

The peak is the high-water mark of physical memory that the kernel keeps (VmHWM, Linux only), pages of mapped files
included. With --small a thirtieth of each, and less memory: the program itself is most of what is held then.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import zarr
from safetensors.torch import save_file

import unetkit as uk
from unetkit.core.machine import format_duration, format_memory, parse_memory
from unetkit.data.formats import create_image
from unetkit.nets.build import build
from unetkit.nets.presets import preset


@dataclass(frozen=True)
class Case:
    """One row of the table. make: writes the image of a shape; net: fields of the network; settings: of its plan."""

    name: str
    file: str
    shape: tuple[int, ...]
    small: tuple[int, ...]
    make: Callable[[Path, tuple[int, ...]], None]
    net: dict[str, Any]
    settings: dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="small images, for a quick look")
    parser.add_argument("--only", default="slide,zarr,scan", help="which of them")
    parser.add_argument("--memory", help="what is allowed; else 2GB, of small images 900MB")
    args = parser.parse_args()
    memory = args.memory or ("900MB" if args.small else "2GB")
    print("| image | size | classes | allowed | forecast | measured | measured / forecast | time |")
    print("|---|---|---|---|---|---|---|---|")
    good = True
    for case in CASES:
        if case.name not in args.only.split(","):
            continue
        shape = case.small if args.small else case.shape
        folder = args.folder / f"{case.name}-{'x'.join(map(str, shape))}"
        image, run = folder / case.file, folder / "run"
        if not image.exists():
            image.parent.mkdir(parents=True, exist_ok=True)
            case.make(image, shape)
        if not run.exists():
            make_run(case, run)
        forecast, peak, seconds = predict(run, image, folder / "masks", memory)
        allowed = parse_memory(memory)
        good &= peak <= allowed and abs(peak / forecast - 1) <= 0.15
        size = " × ".join(f"{n:,}" for n in shape)
        cells = [case.name, size, case.net["classes"], format_memory(allowed), format_memory(forecast)]
        cells += [format_memory(peak), f"{peak / forecast:.2f}", format_duration(seconds)]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print("each within what is allowed, and within 15 % of its forecast" if good else "NOT as it should be")
    return 0 if good else 1


def predict(run: Path, image: Path, out: Path, memory: str) -> tuple[int, int, float]:
    """Bytes forecast, the most bytes held, and seconds, of the command line as users call it."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "unetkit", "predict", run, image, "-o", out, "--memory", memory, "--overwrite"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as made:
        peak = 0
        while made.poll() is None:
            peak = max(peak, high_water(made.pid))
            time.sleep(0.05)
        said = made.stdout.read() if made.stdout else ""
    if made.returncode != 0:
        raise SystemExit(said)
    found = re.search(r"([\d.]+ [kMGT]?B) expected of", " ".join(said.split()))
    if found is None:
        raise SystemExit(f"no forecast was printed:\n{said}")
    return parse_memory(found[1]), peak, time.perf_counter() - began


def high_water(pid: int) -> int:
    """The most bytes of physical memory that a process has held; 0 when it has ended."""
    try:
        words = Path(f"/proc/{pid}/status").read_text().split()
        return int(words[words.index("VmHWM:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


def make_run(case: Case, run: Path) -> None:
    """A run folder with random weights, by way of an import."""
    spec = preset("unet").form(case.net.get("ndim", 2)).replace(case.net)
    checkpoint = run.with_suffix(".safetensors")
    save_file(build(spec, seed=0).state_dict(), checkpoint)
    fields = {
        f"net.{name}": value for name, value in case.net.items() if name not in ("ndim", "in_channels", "classes")
    }
    uk.import_weights(
        checkpoint,
        "unet",
        run,
        classes=[f"class{k}" for k in range(spec.classes)],
        channels=spec.in_channels,
        ndim=spec.ndim,
        settings=fields | case.settings,
    )


def make_slide(path: Path, shape: tuple[int, ...]) -> None:
    """Waves and stains of three colours, tile by tile."""
    x = np.arange(shape[1], dtype=np.float32)
    with create_image(path, shape, 3, "uint8") as writer:
        for region in writer.bands(1 << 23):
            y = np.arange(region.start[0], region.stop[0], dtype=np.float32)[:, None]
            tissue = np.sin(x / 700) * np.sin(y / 900)
            cells = np.sin(x / 11) * np.sin(y / 13)
            colours = [200 + 40 * tissue, 140 + 60 * tissue + 30 * cells, 190 + 20 * cells]
            writer.write(region, np.stack(colours).astype(np.uint8) & 0xF8)


def make_zarr(path: Path, shape: tuple[int, ...]) -> None:
    """Waves in three directions, chunk by chunk."""
    side = min(128, *shape)
    array = zarr.create_array(path, shape=shape, chunks=(side,) * 3, dtype="uint8")
    for z in range(0, shape[0], side):
        waves = [np.sin(np.arange(n, dtype=np.float32) / 17) for n in shape]
        slab = waves[0][z : z + side, None, None] + waves[1][:, None] + waves[2]
        array[z : z + side] = (128 + 40 * slab).astype(np.uint8) & 0xF8


def make_scan(path: Path, shape: tuple[int, ...]) -> None:
    """A body of Hounsfield units."""
    waves = [np.cos((np.arange(n, dtype=np.float32) / n - 0.5) * 3) for n in shape]
    voxels = np.empty(shape, np.int16)
    for z in range(shape[2]):
        voxels[..., z] = (1400 * waves[0][:, None] * waves[1] * waves[2][z] - 1000).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.8, 0.8, 1, 1])), path)


CASES = (
    Case(
        "slide",
        "slide.tif",
        (40_000, 40_000),
        (7_000, 7_000),
        make_slide,
        {"channels": (8, 16), "blocks": 1, "in_channels": 3, "classes": 2},
        {"prepare.colour": "rgb", "prepare.channels": 3},
    ),
    Case(
        "zarr",
        "volume.zarr",
        (1000, 1000, 1000),
        (300, 300, 300),
        make_zarr,
        {"ndim": 3, "channels": (4, 8), "blocks": 1, "classes": 20},
        {"prepare.normalise": "image"},
    ),
    Case(
        "scan",
        "scan.nii.gz",
        (512, 512, 800),
        (256, 256, 400),
        make_scan,
        {"ndim": 3, "channels": (8, 16), "blocks": 1, "classes": 3},
        {"prepare.spacing": (1.2, 1.2, 1.5), "prepare.unit": "mm", "prepare.orientation": "RAS"},
    ),
)

if __name__ == "__main__":
    sys.exit(main())
