"""The U-Net family: a spec is a value, everything else follows from it. Imports torch only where it is needed.

`NetSpec` is plain data and `unetkit.nets.geometry` computes with it; `UNet` is the torch module. The functions `build`
and `geometry` are imported from the files of the same name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unetkit.nets.build import UNet
    from unetkit.nets.parts import trust
    from unetkit.nets.presets import PRESETS, preset
    from unetkit.nets.reduced import fold_batch_norm, prune
    from unetkit.nets.spec import Head, NetSpec
    from unetkit.nets.tasks import probabilities, split
    from unetkit.nets.weights import load_weights, save_weights

_HOME = {
    "Head": "spec",
    "UNet": "build",
    "probabilities": "tasks",
    "prune": "reduced",
    "split": "tasks",
    "trust": "parts",
    "PRESETS": "presets",
    "preset": "presets",
    "NetSpec": "spec",
    "fold_batch_norm": "reduced",
    "load_weights": "weights",
    "save_weights": "weights",
}

__all__ = [
    "PRESETS",
    "Head",
    "NetSpec",
    "UNet",
    "fold_batch_norm",
    "load_weights",
    "preset",
    "probabilities",
    "prune",
    "save_weights",
    "split",
    "trust",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
