"""MONAI's BasicUNet with the transforms, loss and sliding window of its tutorials
(github.com/Project-MONAI/tutorials: 2d_segmentation, 3d_segmentation)."""

from __future__ import annotations

from typing import Any

from arena.contestants.task import Outcome, Task, timed

TITLE = "MONAI BasicUNet"
SETS = ("em", "nuclei", "hippocampus", "axons")
WORDS = {
    "network": "BasicUNet as it comes: widths 32, 32, 64, 128, 256, 32, instance norm, LeakyReLU 0.1",
    "loss": "DiceCELoss (softmax, to_onehot_y)",
    "optimiser": "AdamW, 1e-3, weight decay 1e-5, cosine over the minutes",
    "augmentation": "images: flips, quarter turns, rotation, zoom 0.8 … 1.25, noise, intensity scale and shift; "
    "volumes: rotation up to 15°, zoom 0.85 … 1.15, noise, intensity scale and shift (no flips: they hurt hippocampi)",
    "prediction": "sliding window of the patch, overlap 50 %, Gaussian",
    "validation": "none: all training cases, the last weights",
    "precision": "float32",
    "source": "MONAI tutorials",
}


def settings(name: str) -> dict[str, Any]:
    patch = (40, 56, 40) if name == "hippocampus" else (256, 256)
    return {"patch": patch, "batch": 2, "lr": 1e-3, "weight_decay": 1e-5, "workers": 1}


def compete(task: Task) -> Outcome:
    import torch
    from monai.inferers import sliding_window_inference
    from monai.losses import DiceCELoss
    from monai.networks.nets import BasicUNet
    from monai.utils import set_determinism

    from arena.contestants import learning

    set_determinism(task.seed)
    given, patch = task.settings, tuple(task.settings["patch"])
    net = BasicUNet(spatial_dims=task.kind.ndim, in_channels=task.kind.channels, out_channels=len(task.kind.classes))
    pairs = [{"image": torch.from_numpy(image), "label": torch.from_numpy(label)[None].float()}
             for image, label in learning.examples(task)]  # fmt: skip

    def make(seed: int) -> learning.Sampler:
        transform = _transform(task.kind.ndim, patch)
        transform.set_random_state(seed)

        def sample(random: Any) -> tuple[Any, Any]:
            item = transform(pairs[int(random.integers(len(pairs)))])
            return item["image"].as_tensor(), item["label"].as_tensor()

        return sample

    optimiser = torch.optim.AdamW(net.parameters(), lr=given["lr"], weight_decay=given["weight_decay"])
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    batches = learning.loader(task, make, given["batch"])
    steps, trained = learning.train(task, net, loss, optimiser, batches, learning.cosine)
    net.eval()

    def probabilities(image: torch.Tensor) -> torch.Tensor:
        logits = sliding_window_inference(image[None], patch, 4, net, overlap=0.5, mode="gaussian")
        return torch.softmax(logits, 1)[0]

    learning.predict(task, probabilities)
    return timed(task, trained, steps)


def _transform(ndim: int, patch: tuple[int, ...]) -> Any:
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
        SpatialPadd,
    )

    keys, image, modes = ("image", "label"), ("image",), ("bilinear", "nearest")
    crop = [SpatialPadd(keys, patch), RandSpatialCropd(keys, patch, random_size=False)]
    if ndim == 2:
        return Compose([
            RandRotated(keys, range_x=3.14, prob=0.3, mode=modes, padding_mode="reflection"),
            RandZoomd(keys, prob=0.3, min_zoom=0.8, max_zoom=1.25, mode=modes),
            *crop,
            RandAxisFlipd(keys, prob=0.5), RandRotate90d(keys, prob=0.5),
            RandGaussianNoised(image, prob=0.2),
            RandScaleIntensityd(image, 0.3, prob=0.5), RandShiftIntensityd(image, 0.3, prob=0.5),
        ])  # fmt: skip
    angle = 0.26
    return Compose([
        RandRotated(keys, range_x=angle, range_y=angle, range_z=angle, prob=0.3, mode=modes, padding_mode="border"),
        RandZoomd(keys, prob=0.3, min_zoom=0.85, max_zoom=1.15, mode=modes),
        *crop,
        RandGaussianNoised(image, prob=0.2),
        RandScaleIntensityd(image, 0.1, prob=0.5), RandShiftIntensityd(image, 0.1, prob=0.5),
    ])  # fmt: skip
