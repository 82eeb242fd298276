"""What the contestants in plain PyTorch share: arrays in memory, a loader, a loop of so many minutes, predictions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from arena.contestants.task import Task
from arena.scoring import write_prediction
from arena.sets import Array
from unetkit.metrics.membrane import components

Sampler = Callable[[np.random.Generator], Any]


def normalised(image_CX: Array) -> Array:
    """Each channel by its own mean and standard deviation."""
    axes = tuple(range(1, image_CX.ndim))
    deviation = image_CX.std(axes, keepdims=True)
    return ((image_CX - image_CX.mean(axes, keepdims=True)) / np.maximum(deviation, 1e-6)).astype(np.float32)


def examples(task: Task) -> list[tuple[Array, Array]]:
    """Normalised images (C, *space) and classes (*space) of the training cases; of nuclei foreground and background."""
    found = []
    for case in task.train_cases:
        label = task.kind.read_label(case)
        label = (label > 0).astype(np.uint8) if task.kind.name == "nuclei" else label
        found.append((normalised(task.kind.read_image(case)), label))
    return found


class Endless(IterableDataset[Any]):
    """Samples without end, drawn by `make(seed)(random)`; every worker has a seed of its own."""

    def __init__(self, make: Callable[[int], Sampler], seed: int) -> None:
        self.make, self.seed = make, seed

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        seed = 1000 * self.seed + (info.id if info is not None else 0)
        sample, random = self.make(seed), np.random.default_rng(seed)
        while True:
            yield sample(random)


def loader(task: Task, make: Callable[[int], Sampler], batch: int | None) -> DataLoader[Any]:
    """Batches made by worker processes while the network computes; batch None: `make` gives whole batches."""
    workers = int(task.settings["workers"])
    return DataLoader(Endless(make, task.seed), batch_size=batch, num_workers=workers, prefetch_factor=4)


def cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def train(
    task: Task,
    net: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Any],
    schedule: Callable[[float], float],
    clip: float | None = None,
) -> tuple[int, float]:
    """Train until the minutes are over; the learning rate follows `schedule` of the time that is done (0 … 1).

    Gives the steps, and when it ended. A step that would not end in time is not begun.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    start, steps, took, said = time.time(), 0, 0.0, 0.0
    net.train()
    for image, target in batches:
        began = time.time()
        if began + took > task.deadline:
            break
        done = min(1.0, (began - start) / (task.deadline - start))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(done)
        value = loss(net(image), target)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimiser.step()
        steps += 1
        took = time.time() - began
        if began - said > 20:
            said = began
            print(f"step {steps}, loss {float(value.detach()):.4f}, {(began - task.began) / 60:.1f} min", flush=True)
    print(f"{steps} steps in {(time.time() - task.began) / 60:.2f} min", flush=True)
    return steps, time.time()


def predict(task: Task, probabilities: Callable[[Tensor], Tensor]) -> None:
    """Write a prediction for every held-out case; `probabilities` makes (K, *space) of a normalised (C, *space)."""
    for case in task.test_cases:
        with torch.inference_mode():
            found = probabilities(torch.from_numpy(normalised(task.kind.read_image(case)))).float().numpy()
        label = found.argmax(0).astype(np.uint8)
        if task.kind.name == "nuclei":  # neighbours that touch by a corner stay apart
            write_prediction(task.out, case, components(label == 1))
        else:
            write_prediction(task.out, case, label, found[1] if task.kind.name == "em" else None)


def padded(image: Tensor, multiple: int, least: Sequence[int] | None = None) -> tuple[Tensor, tuple[slice, ...]]:
    """The image (C, *space) with mirrored (where it is too small for that: repeated) borders, to a multiple and a least
    size; and where it lies in that."""
    pads: list[int] = []
    inside: list[slice] = [slice(None)]
    mode = "reflect"
    for axis, size in enumerate(image.shape[1:]):
        wanted = max(size, least[axis] if least is not None else 0)
        extra = -(-wanted // multiple) * multiple - size
        pads = [extra // 2, extra - extra // 2, *pads]
        inside.append(slice(extra // 2, extra // 2 + size))
        mode = "replicate" if extra - extra // 2 >= size else mode
    return nn.functional.pad(image[None], pads, mode=mode)[0], tuple(inside)
