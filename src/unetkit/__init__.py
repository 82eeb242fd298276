"""unetkit: a folder of images and masks becomes a segmentation model you can trust.

    import unetkit as uk
    run = uk.train("data/", "run/", minutes=6)
    mask = run.predict(image_array)

Names are loaded on first use: `import unetkit` itself loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unetkit.api import (
        Run,
        augment,
        check,
        evaluate,
        import_weights,
        open_run,
        plan,
        predict,
        report,
        suspects,
        train,
    )
    from unetkit.core import events
    from unetkit.core.errors import UnetkitError
    from unetkit.data.find.sample import Sample
    from unetkit.nets import UNet
    from unetkit.nets.spec import NetSpec
    from unetkit.plan.plan import Plan, Request

_HOME = {
    **dict.fromkeys(
        (
            "Run",
            "augment",
            "check",
            "evaluate",
            "import_weights",
            "open_run",
            "plan",
            "predict",
            "report",
            "suspects",
            "train",
        ),
        "unetkit.api",
    ),
    "Sample": "unetkit.data.find.sample",
    "UnetkitError": "unetkit.core.errors",
    "events": "unetkit.core.events",
    "NetSpec": "unetkit.nets.spec",
    "UNet": "unetkit.nets",
    "Plan": "unetkit.plan.plan",
    "Request": "unetkit.plan.plan",
}

__all__ = [
    "NetSpec",
    "Plan",
    "Request",
    "Run",
    "Sample",
    "UNet",
    "UnetkitError",
    "augment",
    "check",
    "evaluate",
    "events",
    "import_weights",
    "open_run",
    "plan",
    "predict",
    "report",
    "suspects",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'unetkit' has no attribute '{name}'; it has {', '.join(__all__)}")
    home = importlib.import_module(_HOME[name])
    return home if _HOME[name].endswith(f".{name}") else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """Verbs and folders share names (`unetkit.train` is a function, `unetkit/train/` holds its parts). Importing a
    folder would put the module in the verb's place; here the verb stays. `from unetkit.train import loop` works."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
