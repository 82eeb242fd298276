"""Unet with a ResNet-34 encoder of segmentation_models_pytorch, from scratch (smp.readthedocs.io, its quick start)."""

from __future__ import annotations

from typing import Any

from arena.contestants.task import Outcome, Task, timed

TITLE = "smp Unet-resnet34"
SETS = ("em", "nuclei", "axons")
WORDS = {
    "network": "smp.Unet('resnet34', encoder_weights=None)",
    "loss": "smp DiceLoss (multiclass) + cross-entropy",
    "optimiser": "AdamW, 1e-3, weight decay 1e-2, cosine over the minutes",
    "augmentation": "flips, quarter turns, scale 0.75 … 1.33, brightness, contrast, noise (plain torch)",
    "prediction": "whole images up to 512 × 512, mirrored to a multiple of 32; larger: windows of 512, half over",
    "validation": "none: all training cases, the last weights",
    "precision": "float32",
    "source": "smp documentation, quick start and training example",
}


def settings(name: str) -> dict[str, Any]:  # noqa: ARG001  (the same for every set)
    return {"patch": (256, 256), "batch": 4, "lr": 1e-3, "weight_decay": 1e-2, "window": 512, "workers": 1}


def declare_missing_ops() -> None:
    """smp takes its ResNet from torchvision, whose wheels of the package index are built against CUDA: beside a CPU
    torch their compiled part cannot be loaded, and the package then fails to describe two operators. Declared before
    (they are never called), its Python part, where ResNet is, imports as it is."""
    import torch

    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", signature)


def compete(task: Task) -> Outcome:
    import torch
    from monai.inferers import sliding_window_inference
    from torch.nn import functional as F

    from arena.contestants import learning

    declare_missing_ops()
    import segmentation_models_pytorch as smp

    torch.manual_seed(task.seed)
    given, patch = task.settings, tuple(task.settings["patch"])
    net = smp.Unet("resnet34", encoder_weights=None, in_channels=task.kind.channels, classes=len(task.kind.classes))
    pairs = [(torch.from_numpy(image), torch.from_numpy(label)) for image, label in learning.examples(task)]
    dice = smp.losses.DiceLoss(mode="multiclass")

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return dice(logits, target) + F.cross_entropy(logits, target)

    def make(seed: int) -> learning.Sampler:
        torch.manual_seed(seed)
        return lambda random: _sample(*pairs[int(random.integers(len(pairs)))], patch, random)

    optimiser = torch.optim.AdamW(net.parameters(), lr=given["lr"], weight_decay=given["weight_decay"])
    batches = learning.loader(task, make, given["batch"])
    steps, trained = learning.train(task, net, loss, optimiser, batches, learning.cosine)
    net.eval()

    def probabilities(image: torch.Tensor) -> torch.Tensor:
        whole, inside = learning.padded(image, 32)
        window = [min(size, given["window"]) for size in whole.shape[1:]]
        logits = sliding_window_inference(whole[None], window, 1, net, overlap=0.5, mode="gaussian")
        return torch.softmax(logits, 1)[0][inside]

    learning.predict(task, probabilities)
    return timed(task, trained, steps)


def _sample(image: Any, label: Any, patch: tuple[int, ...], random: Any) -> tuple[Any, Any]:
    """A crop of the image (C, Y, X) and its classes (Y, X), changed at random."""
    import torch
    from torch.nn import functional as F

    from arena.contestants.learning import padded

    scale = float(2 ** random.uniform(-0.415, 0.415)) if random.random() < 0.5 else 1.0
    size = [max(1, round(length / scale)) for length in patch]
    both, _ = padded(torch.cat([image, label[None].float()]), 1, size)
    corner = [int(random.integers(have - want + 1)) for have, want in zip(both.shape[1:], size, strict=True)]
    both = both[:, corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
    crop, target = both[:-1], both[-1:]
    if scale != 1.0:
        crop = F.interpolate(crop[None], patch, mode="bilinear", align_corners=False)[0]
        target = F.interpolate(target[None], patch, mode="nearest")[0]
    turns, flips = int(random.integers(4)), [axis for axis in (1, 2) if random.random() < 0.5]
    crop, target = (torch.flip(torch.rot90(part, turns, (1, 2)), flips) for part in (crop, target))
    if random.random() < 0.5:
        crop = crop * float(random.uniform(0.75, 1.25)) + float(random.uniform(-0.25, 0.25))
    if random.random() < 0.2:
        crop = crop + 0.1 * torch.randn(crop.shape)
    return crop.contiguous(), target[0].long().contiguous()
