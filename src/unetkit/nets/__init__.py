"""The U-Net family: a spec is a value, everything else follows from it. Imports torch only where it is needed.

`NetSpec` and `geometry` are plain Python; `UNet` and `build` make torch modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unetkit.nets.build import UNet, build
    from unetkit.nets.geometry import Geometry, geometry
    from unetkit.nets.presets import PRESETS, preset
    from unetkit.nets.spec import NetSpec
    from unetkit.nets.weights import fold_batch_norm, load_weights, save_weights

_HOME = {
    "UNet": "build",
    "build": "build",
    "Geometry": "geometry",
    "geometry": "geometry",
    "PRESETS": "presets",
    "preset": "presets",
    "NetSpec": "spec",
    "fold_batch_norm": "weights",
    "load_weights": "weights",
    "save_weights": "weights",
}

__all__ = [
    "PRESETS",
    "Geometry",
    "NetSpec",
    "UNet",
    "build",
    "fold_batch_norm",
    "geometry",
    "load_weights",
    "preset",
    "save_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
