"""Membranes in electron microscopy: the same minutes for unetkit and for MONAI's BasicUNet, scored alike.

    python benchmarks/membranes.py EM_FOLDER --minutes 6 [--only unetkit]

EM_FOLDER holds images/ and masks/ (0 membrane, 255 cell). Every fifth slice is held out; both train on the others,
one after the other, for the same minutes on the same machine. Scores on the held-out slices: Dice, V_rand and V_info
(foreground-restricted, border-thinned, best threshold per image over the probabilities, as the ISBI 2012 challenge
scores, see unetkit.metrics.membrane). `plain thinning` is the same without extending the image at its edge.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import unetkit as uk
from unetkit.core.machine import cores
from unetkit.data.find.discover import discover
from unetkit.data.formats import open_image
from unetkit.data.labels.masks import read_raw_label
from unetkit.metrics.membrane import THRESHOLDS, components, membrane_scores, segment_scores
from unetkit.predict.options import OutputOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--only", choices=("unetkit", "monai"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of unetkit's plan")
    parser.add_argument("--keep", type=Path, help="keep the data split and the run here")
    args = parser.parse_args()
    settings = dict(item.split("=", 1) for item in args.set)
    with tempfile.TemporaryDirectory() as temporary:
        work = args.keep or Path(temporary)
        hold_out(args.folder, work)
        names = {
            "unetkit": lambda: with_unetkit(work, args.minutes, args.seed, settings),
            "monai": lambda: with_monai(work, args.minutes, args.seed),
        }
        print(f"{args.minutes:g} minutes each on {cores()} cores, torch {torch.__version__}")
        print("| | Dice | V_rand | V_info | V_rand, plain thinning | steps | seconds in all |")
        print("|---|---|---|---|---|---|---|")
        for name, run in names.items():
            if args.only in (None, name):
                for row in run():
                    print("| " + " | ".join(str(value) for value in row) + " |", flush=True)


def hold_out(folder: Path, work: Path) -> None:
    """train/ and test/ with links to the slices; every fifth is held out."""
    shutil.rmtree(work / "data", ignore_errors=True)
    for number, case in enumerate(discover(folder).cases):
        part = "test" if number % 5 == 3 else "train"
        for kind, path in (("images", case.images[0]), ("masks", case.label)):
            target = work / "data" / part / kind / Path(path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(path).resolve())


def with_unetkit(work: Path, minutes: float, seed: int, settings: dict[str, str]) -> list[list[object]]:
    began = time.perf_counter()
    run = uk.train(work / "data" / "train", work / "run", uk.Request(minutes=minutes, seed=seed, settings=settings))
    seconds = time.perf_counter() - began
    steps = json.loads((work / "run" / "metrics.json").read_text())["steps"]
    rows = []
    for name, tta in (("unetkit, as planned", None), ("unetkit, --no-tta", False)):
        out = work / f"predictions-{tta}"
        outputs = OutputOptions(probabilities=True, overwrite=True)
        uk.predict(run.path, work / "data" / "test" / "images", out, outputs=outputs, tta=tta)
        legend = run.plan.data.legend
        membrane = next(k for k, entry in enumerate(legend.classes) if entry.value == 0)
        probabilities = {}
        for path in sorted((out / "probabilities").iterdir()):
            with open_image(path) as reader:
                probabilities[path.stem] = reader.read()[membrane].astype(np.float32)
        rows.append([name, *scores(work, probabilities), steps, f"{seconds:.0f}"])
    return rows


def with_monai(work: Path, minutes: float, seed: int) -> list[list[object]]:
    """BasicUNet, DiceCE loss, flips, turns, zoom and intensity changes, sliding window with 50 % overlap, float32."""
    from monai.inferers import sliding_window_inference
    from monai.losses import DiceCELoss
    from monai.networks.nets import BasicUNet
    from monai.transforms import (
        Compose,
        RandAxisFlipd,
        RandGaussianNoised,
        RandRotate90d,
        RandRotated,
        RandScaleIntensityd,
        RandShiftIntensityd,
        RandSpatialCropd,
        RandZoomd,
    )
    from monai.utils import set_determinism

    set_determinism(seed)
    began = time.perf_counter()
    pairs = []
    for case in discover(work / "data" / "train").cases:
        with open_image(case.images[0]) as reader:
            image = reader.read().astype(np.float32)
        label = (read_raw_label(case.label) == 0)[None].astype(np.float32)
        pairs.append(
            {"image": torch.from_numpy((image - image.mean()) / image.std()), "label": torch.from_numpy(label)}
        )
    keys = ("image", "label")
    transform = Compose([
        RandRotated(keys, range_x=3.14, prob=0.3, mode=("bilinear", "nearest"), padding_mode="reflection"),
        RandZoomd(keys, prob=0.3, min_zoom=0.8, max_zoom=1.25, mode=("bilinear", "nearest")),
        RandSpatialCropd(keys, (256, 256), random_size=False), RandAxisFlipd(keys, prob=0.5),
        RandRotate90d(keys, prob=0.5),
        RandGaussianNoised(("image",), prob=0.2), RandScaleIntensityd(("image",), 0.3, prob=0.5),
        RandShiftIntensityd(("image",), 0.3, prob=0.5),
    ])  # fmt: skip
    net = BasicUNet(spatial_dims=2, in_channels=1, out_channels=2)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    random, steps = np.random.default_rng(seed), 0
    while (elapsed := time.perf_counter() - began) < minutes * 60:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * elapsed / (minutes * 60)))
        batch = [transform(pairs[k]) for k in random.integers(len(pairs), size=2)]
        image, label = (torch.stack([torch.as_tensor(item[key]) for item in batch]) for key in keys)
        value = loss(net(image), label)
        optimiser.zero_grad()
        torch.autograd.backward(value)
        optimiser.step()
        steps += 1
    seconds = time.perf_counter() - began
    net.eval()
    probabilities = {}
    for case in discover(work / "data" / "test").cases:
        with open_image(case.images[0]) as reader:
            image = reader.read().astype(np.float32)
        image = torch.from_numpy((image - image.mean()) / image.std())[None]
        with torch.inference_mode():
            logits = sliding_window_inference(image, (256, 256), 4, net, overlap=0.5, mode="gaussian")
        probabilities[case.id] = torch.softmax(logits, 1)[0, 1].numpy()
    return [["MONAI BasicUNet", *scores(work, probabilities), steps, f"{seconds:.0f}"]]


def scores(work: Path, probabilities: dict[str, np.ndarray]) -> list[str]:
    """Dice, V_rand, V_info and V_rand with plain thinning: means over the held-out slices."""
    from skimage.morphology import skeletonize

    rows = []
    for case in discover(work / "data" / "test").cases:
        truth = read_raw_label(case.label) == 0
        probability = probabilities[case.id]
        found = probability > 0.5
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        best = membrane_scores(probability, truth)
        cells = components(~truth)
        plain = max(segment_scores(components(~skeletonize(probability >= t)), cells).v_rand for t in THRESHOLDS)
        rows.append((dice, best.v_rand, best.v_info, plain))
    return [f"{value:.4f}" for value in np.mean(rows, axis=0)]


if __name__ == "__main__":
    main()
