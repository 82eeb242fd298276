"""A plain 1-D U-Net for electrocardiograms, as in Moskalenko, Zolotykh, Osipov: Deep Learning for ECG Segmentation
(2019): four levels down, two convolutions of 9 with batch norm and ReLU at each, cross-entropy, windows of 4 s."""

from __future__ import annotations

import itertools
from typing import Any

from arena.contestants.task import Outcome, Task, timed

TITLE = "plain 1-D U-Net"
SETS = ("ecg",)
WORDS = {
    "network": "1-D U-Net of four levels down, widths 16 … 256, kernels 9, batch norm, ReLU, transposed convolutions",
    "loss": "cross-entropy without the samples that nobody judged",
    "optimiser": "AdamW, 3e-3, weight decay 1e-2, cosine over the minutes",
    "augmentation": "window anywhere, amplitude 0.8 … 1.25, noise",
    "prediction": "whole leads",
    "validation": "none: all training cases, the last weights",
    "precision": "float32",
    "source": "Moskalenko 2019, wider",
}


def settings(name: str) -> dict[str, Any]:  # noqa: ARG001  (one set)
    return {"patch": (2000,), "batch": 16, "lr": 3e-3, "weight_decay": 1e-2, "widths": (16, 32, 64, 128, 256),
            "kernel": 9, "workers": 1}  # fmt: skip


def network(channels: int, classes: int, widths: tuple[int, ...], kernel: int) -> Any:
    import torch
    from torch import nn

    def block(before: int, after: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width in (before, after):
            layers += [nn.Conv1d(width, after, kernel, padding=kernel // 2), nn.BatchNorm1d(after), nn.ReLU()]
        return nn.Sequential(*layers)

    class UNet1d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            pairs = list(itertools.pairwise(widths))
            self.down = nn.ModuleList(
                block(before, after) for before, after in zip((channels, *widths), widths, strict=False)
            )
            self.up = nn.ModuleList(nn.ConvTranspose1d(low, high, 2, 2) for high, low in reversed(pairs))
            self.join = nn.ModuleList(block(2 * high, high) for high, _ in reversed(pairs))
            self.head = nn.Conv1d(widths[0], classes, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            kept = []
            for number, level in enumerate(self.down):
                x = level(x if number == 0 else nn.functional.max_pool1d(x, 2))
                kept.append(x)
            for up, join, skip in zip(self.up, self.join, reversed(kept[:-1]), strict=True):
                x = join(torch.cat([skip, up(x)], 1))
            return self.head(x)

    return UNet1d()


def compete(task: Task) -> Outcome:
    import torch

    from arena.contestants import learning
    from arena.sets import IGNORE

    torch.manual_seed(task.seed)
    given, (length,) = task.settings, task.settings["patch"]
    net = network(task.kind.channels, len(task.kind.classes), tuple(given["widths"]), given["kernel"])
    pairs = [(torch.from_numpy(image), torch.from_numpy(label).long()) for image, label in learning.examples(task)]

    def make(seed: int) -> learning.Sampler:
        torch.manual_seed(seed)

        def sample(random: Any) -> tuple[Any, Any]:
            image, label = pairs[int(random.integers(len(pairs)))]
            start = int(random.integers(label.shape[0] - length + 1))
            lead = image[:, start : start + length] * float(random.uniform(0.8, 1.25))
            return lead + 0.05 * float(random.random()) * torch.randn(lead.shape), label[start : start + length]

        return sample

    loss = torch.nn.CrossEntropyLoss(ignore_index=IGNORE)
    optimiser = torch.optim.AdamW(net.parameters(), lr=given["lr"], weight_decay=given["weight_decay"])
    batches = learning.loader(task, make, given["batch"])
    steps, trained = learning.train(task, net, loss, optimiser, batches, learning.cosine)
    net.eval()

    def probabilities(image: torch.Tensor) -> torch.Tensor:
        whole, inside = learning.padded(image, 16)
        return torch.softmax(net(whole[None]), 1)[0][inside]

    learning.predict(task, probabilities)
    return timed(task, trained, steps)
