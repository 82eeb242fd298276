"""nnU-Net's own planner, network, loss, optimiser, schedule, patches, augmentation and predictor (nnunetv2), over so
many minutes in place of 1000 epochs.

Taken from the package as it is: ExperimentPlanner (with the documented option of a target for the memory, small, so
that more steps fit into minutes on a CPU), get_network_from_plans, DC_and_CE_loss in DeepSupervisionWrapper,
nnUNetDataLoader, nnUNetTrainer's training transforms and rotation, nnUNetPredictor with mirroring. Left out: its
preparation of files (here arrays in memory; nothing is resampled, as all spacings are alike) and its five folds: one
network on all cases.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from arena.contestants.task import Outcome, Task, timed

TITLE = "nnU-Net's network, loss and schedule"
SETS = ("em", "nuclei", "hippocampus", "axons")
WORDS = {
    "network": "PlainConvUNet as the planner makes it: widths 32 … 512 (volumes 256), instance norm, LeakyReLU",
    "loss": "Dice + cross-entropy, deep supervision",
    "optimiser": "SGD, Nesterov 0.99, 1e-2, weight decay 3e-5, polynomial 0.9 over the minutes, clipped at 12",
    "augmentation": "its own training transforms (batchgeneratorsv2), a third of the patches on foreground",
    "prediction": "its predictor: sliding window, overlap 50 %, Gaussian, all mirrorings averaged",
    "validation": "none: all training cases (its fold `all`), the last weights",
    "precision": "float32 (it switches autocast off on CPUs)",
    "source": "nnunetv2",
}


def settings(name: str) -> dict[str, Any]:  # noqa: ARG001  (the planner decides)
    return {"gpu_memory_target": 0.5, "lr": 1e-2, "weight_decay": 3e-5, "momentum": 0.99, "oversample": 0.33,
            "clip": 12, "mirror": True, "workers": 1}  # fmt: skip


def compete(task: Task) -> Outcome:
    folder = Path(tempfile.mkdtemp(dir=task.out))
    for name in ("raw", "preprocessed", "results"):  # read when nnunetv2 is imported
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    import torch
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from arena.contestants import learning

    torch.manual_seed(task.seed)
    given, ndim = task.settings, task.kind.ndim
    pairs = learning.examples(task)
    about, configuration = _plan(task, folder, [label.shape for _, label in pairs])
    manager = PlansManager({"dataset_name": "Dataset001_arena", "plans_name": "arena", "label_manager": "LabelManager",
                            "configurations": {"arena": configuration}})  # fmt: skip
    labels = manager.get_label_manager(about)
    kwargs = configuration["architecture"]["arch_kwargs"]
    net = get_network_from_plans(configuration["architecture"]["network_class_name"], kwargs,
                                 configuration["architecture"]["_kw_requires_import"], task.kind.channels,
                                 len(task.kind.classes), deep_supervision=True)  # fmt: skip
    # as nnUNetTrainer has it: a half for each coarser output, none for the coarsest
    scales = [list(scale) for scale in 1 / np.cumprod(np.vstack(kwargs["strides"]), axis=0)][:-1]
    weights = np.array([1 / 2**level for level in range(len(scales))])
    weights[-1] = 0
    dice = {"batch_dice": configuration["batch_dice"], "smooth": 1e-5, "do_bg": False, "ddp": False}
    whole = DC_and_CE_loss(dice, {}, weight_ce=1, weight_dice=1, dice_class=MemoryEfficientSoftDiceLoss)
    loss = DeepSupervisionWrapper(whole, weights / weights.sum())
    batches = learning.loader(task, _batches(pairs, configuration, labels, scales, given["oversample"]), None)
    optimiser = torch.optim.SGD(net.parameters(), given["lr"], weight_decay=given["weight_decay"],
                                momentum=given["momentum"], nesterov=True)  # fmt: skip
    steps, trained = learning.train(task, net, loss, optimiser, batches, lambda done: (1 - done) ** 0.9, given["clip"])
    net.eval()
    net.decoder.deep_supervision = False
    predictor = _predictor(net, manager, about, tuple(range(ndim)) if given["mirror"] else None)

    def probabilities(image: torch.Tensor) -> torch.Tensor:
        volume = image if ndim == 3 else image[:, None]
        logits = predictor.predict_sliding_window_return_logits(volume).float()
        return torch.softmax(logits if ndim == 3 else logits[:, 0], 0)

    learning.predict(task, probabilities)
    plan = {key: configuration[key] for key in ("patch_size", "batch_size", "batch_dice")}
    plan |= {key: kwargs[key] for key in ("features_per_stage", "strides")}
    return timed(task, trained, steps, plan=json.loads(json.dumps(plan, default=int)))


def _plan(task: Task, folder: Path, shapes: list[tuple[int, ...]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nnU-Net knows of the set, and the configuration that its planner makes of it."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    name, ndim = "Dataset001_arena", task.kind.ndim
    about = {
        "channel_names": {str(number): f"image{number}" for number in range(task.kind.channels)},
        "labels": {name if k else "background": k for k, name in enumerate(task.kind.classes)},
        "numTraining": len(shapes), "file_ending": ".none", "dataset": {},
    }  # fmt: skip
    ones = [[1.0] * 3] * len(shapes)
    print_of = {"spacings": ones, "shapes_after_crop": ones, "median_relative_size_after_cropping": 1.0}
    for place, file, value in (("raw", "dataset.json", about), ("preprocessed", "dataset_fingerprint.json", print_of)):
        target = folder / place / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value), encoding="utf-8")
    planner = ExperimentPlanner(name, gpu_memory_target_in_gb=task.settings["gpu_memory_target"])
    median = np.median(np.array(shapes), 0)
    configuration = planner.get_plans_for_configuration(
        [1.0] * ndim, [int(size) for size in median], "arena", float(np.prod(median) * len(shapes)), {}
    )
    configuration["batch_dice"] = ndim == 2  # ExperimentPlanner.plan_experiment: images together, volumes one by one
    configuration["patch_size"] = [int(size) for size in configuration["patch_size"]]
    return about, configuration


def _batches(pairs: Any, configuration: Any, labels: Any, scales: Any, oversample: float) -> Any:
    """nnUNetDataLoader on arrays in memory, with the transforms of nnUNetTrainer."""
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    patch = tuple(configuration["patch_size"])
    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=patch), print_to_log_file=lambda *_: None
    )
    rotation, dummy, larger, mirror = nnUNetTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    transforms = nnUNetTrainer.get_training_transforms(patch, rotation, scales, mirror, dummy)
    cases = {}
    for number, (image, label) in enumerate(pairs):
        image, label = (image, label[None]) if len(patch) == 3 else (image[:, None], label[None, None])
        places = {k: np.argwhere(label == k) for k in labels.foreground_labels}
        cases[str(number)] = (image, label.astype(np.int16), None, {"class_locations": places})
    data = SimpleNamespace(identifiers=list(cases), load_case=cases.__getitem__)

    def make(seed: int) -> Any:
        import torch

        np.random.seed(seed)
        torch.manual_seed(seed)
        batches = nnUNetDataLoader(data, configuration["batch_size"], larger, patch, labels, oversample,
                                   transforms=transforms)  # fmt: skip

        def sample(_: Any) -> tuple[Any, Any]:
            batch = next(batches)
            return batch["data"], batch["target"]

        return sample

    return make


def _predictor(net: Any, manager: Any, about: dict[str, Any], mirror: tuple[int, ...] | None) -> Any:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.manual_initialization(net, manager, manager.get_configuration("arena"), None, about, "arena", mirror)
    return predictor
