"""How fast a large image is predicted, and how well the labels agree: unetkit beside MONAI's sliding window, one run.

    python benchmarks/predict_speed.py --data ../shared/data/em            # trains a small network for a minute first
    python benchmarks/predict_speed.py --data ../shared/data/em --run RUN  # takes the network of a run folder

The same network, the same 2000 × 2000 image (held-out slices, mirrored to size). MONAI runs it in float32 with windows
that overlap by 50 %, Gaussian blending, as is usual. Repeats are interleaved; medians are shown. Agreement is with the
labels of the whole image at once, in float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference

from unetkit.core.rng import numpy_generator
from unetkit.data.formats import image_paths, open_image
from unetkit.nets.build import UNet, build
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import load_weights, save_weights
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor

HELD_OUT = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with images/ and masks/ (0 and 255)")
    parser.add_argument("--run", type=Path, help="a run folder; without it a network is trained first")
    parser.add_argument("--weights", type=Path, help="keep the weights trained here, and take them from here next time")
    parser.add_argument("--seconds", type=float, default=60, help="length of the training")
    parser.add_argument("--channels", default="16,32,64,128,256")
    parser.add_argument("--size", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()

    names = [path.name for path in image_paths(arguments.data / "images")]
    images = [read(arguments.data / "images" / name) for name in names]
    images = [(image - image.mean()) / image.std() for image in images]
    net = network(arguments, images, names)
    picture = mosaic(images[-HELD_OUT:], arguments.size)
    compare(net.eval(), picture, arguments.repeats)


def read(path: Path) -> np.ndarray:
    """(height, width) float32."""
    with open_image(path) as reader:
        return reader.read()[0].astype(np.float32)


def mosaic(images: list[np.ndarray], size: int) -> np.ndarray:
    """One image of size × size from several, mirrored at their borders: (1, size, size)."""
    rows = []
    for row in range(-(-size // images[0].shape[0])):
        parts = [
            images[(row + i) % len(images)][:: (-1) ** row, :: (-1) ** i] for i in range(-(-size // images[0].shape[1]))
        ]
        rows.append(np.concatenate(parts, 1))
    return np.ascontiguousarray(np.concatenate(rows, 0)[None, :size, :size])


def network(arguments: argparse.Namespace, images: list[np.ndarray], names: list[str]) -> UNet:
    if arguments.run is not None:
        from unetkit.predict.load import load_model

        return load_model(arguments.run)[0].net
    net = build(NetSpec(channels=tuple(int(n) for n in arguments.channels.split(","))), seed=0)
    if arguments.weights is not None and arguments.weights.exists():
        load_weights(net, arguments.weights)
        return net
    labels = [(read(arguments.data / "masks" / name) > 127).astype(np.int64) for name in names]
    train(net, images[:-HELD_OUT], labels[:-HELD_OUT], arguments.seconds)
    if arguments.weights is not None:
        save_weights(net, arguments.weights)
    return net


def train(net: UNet, images: list[np.ndarray], labels: list[np.ndarray], seconds: float, side: int = 192) -> None:
    """A plain loop: random crops and flips, cross-entropy, one cycle of the learning rate over the time there is."""
    net.train().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    random, start, step = numpy_generator(0, "crops"), time.monotonic(), 0
    while (spent := (time.monotonic() - start) / seconds) < 1:
        crops = []
        for _ in range(4):
            n = int(random.integers(len(images)))
            y, x = (int(random.integers(s - side)) for s in images[n].shape)
            flips = (slice(None, None, int(random.choice([-1, 1]))), slice(None, None, int(random.choice([-1, 1]))))
            crops.append([a[n][y : y + side, x : x + side][flips] for a in (images, labels)])
        image_BCX = torch.from_numpy(np.stack([c[0] for c in crops])[:, None].copy())
        label_BX = torch.from_numpy(np.stack([c[1] for c in crops]).copy())
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * min(1, spent * 10, (1 - spent) * 1.2)
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(image_BCX.to(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), label_BX)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
    net.eval().to(memory_format=torch.contiguous_format)
    print(f"trained {step} steps in {seconds:.0f} s, last loss {loss.item():.3f}")


def compare(net: UNet, picture: np.ndarray, repeats: int) -> None:
    image_BCX = torch.from_numpy(picture)[None]

    def monai(window: int, layout: torch.memory_format) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            net.to(memory_format=layout)
            with torch.inference_mode():
                logits = sliding_window_inference(image_BCX, (window, window), 4, net, overlap=0.5, mode="gaussian")
            net.to(memory_format=torch.contiguous_format)
            return logits[0].argmax(0).numpy()

        return run

    def ours(precision: str, tta: bool = False) -> Callable[[], np.ndarray]:
        return lambda: Predictor(net, PredictOptions(precision=precision, tta=tta)).array(picture)

    ways: dict[str, Callable[[], np.ndarray]] = {
        "unetkit, precision auto": ours("auto"),
        "unetkit, bf16": ours("bf16"),
        "unetkit, fp32": ours("fp32"),
        "MONAI, windows of 256": monai(256, torch.contiguous_format),
        "MONAI, windows of 512": monai(512, torch.contiguous_format),
        "MONAI, windows of 512, channels_last": monai(512, torch.channels_last),
    }
    with torch.inference_mode():
        truth = net(image_BCX)[0].argmax(0).numpy()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    agreement = {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            label = way()
            seconds[name].append(time.perf_counter() - start)
            agreement[name] = float((label == truth).mean())
    first = statistics.median(seconds["unetkit, precision auto"])
    print(f"{picture.shape[1]} × {picture.shape[2]} pixels, {torch.get_num_threads()} threads, median of {repeats}")
    print(f"{'':40}{'seconds':>9}{'times the first':>18}{'labels as whole fp32':>23}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:40}{median:9.2f}{median / first:18.1f}{agreement[name]:23.4%}")


if __name__ == "__main__":
    main()
