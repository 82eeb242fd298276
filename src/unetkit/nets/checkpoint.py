"""Files of weights from elsewhere: tensors with names, and nothing that is executed.

A safetensors file, or what `torch.save(net.state_dict())` wrote, also inside a training checkpoint. Such files are
pickles; they are read by torch's restricted unpickler, which makes tensors and plain values and calls nothing else.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from unetkit.core.errors import RunError
from unetkit.nets.weights import read_weights

# Where training programs keep the weights in their checkpoints (Lightning, plain loops, nnU-Net).
NESTED = ("state_dict", "model_state_dict", "model", "network_weights", "net", "network", "weights", "params")
# What wrappers put in front of every name (Lightning, DataParallel, torch.compile).
PREFIXES = ("model.", "net.", "module.", "_orig_mod.")
COUNTER = "num_batches_tracked"
"""Last part of the names of batch norm's counters, which no prediction depends on."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file, by its own names and in its own order.

    nested   the entry that held them ("state_dict"), or empty
    skipped  entries beside them that are no tensors
    """

    path: Path
    format: Literal["safetensors", "torch"]
    tensors: dict[str, Tensor]
    nested: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def ordered(self) -> bool:
        """Whether the order is the one in which the network was made: safetensors sorts by name."""
        return self.format == "torch"


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a checkpoint, on the CPU.

    Raises RunError: absent, cut short, holds Python objects (they are not made), holds no tensors, or tensors with
    values that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "there is no such file"
        raise RunError(f"{path}: {what}; name a safetensors file, or one that torch.save(net.state_dict()) wrote")
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix.lower() == ".safetensors" or start[8:9] == b"{":
        found = Checkpoint(path, "safetensors", read_weights(path)[0])
    else:
        found = _tensors_of(path, _load(path))
    if not found.tensors:
        raise RunError(f"{path}: holds no tensors; name a file of weights")
    for name, value in found.tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise RunError(
                f"{path}: {name} holds values that are not finite (NaN or infinite): the training that made it"
                " diverged; take an earlier checkpoint"
            )
    return found


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Each name without the prefixes that wrappers add; as they are where two names would become one."""
    plain = {name: _plain(name) for name in names}
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in plain}


def _plain(name: str) -> str:
    while (prefix := next((p for p in PREFIXES if name.startswith(p) and name != p), None)) is not None:
        name = name.removeprefix(prefix)
    return name


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numbers()):
            warnings.simplefilter("ignore")  # what torch warns of here is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch advises to read such files without protection; that advice is not passed on
        named = re.search(r"GLOBAL ([\w.]+)|(?:global|class) ([\w.]+\.[\w.]+)", str(error))
        if named is None:
            raise RunError(_damaged(path, "it holds something else than tensors; nothing of it was run")) from None
        raise RunError(
            f"{path}: holds Python objects ({named[1] or named[2]}), which would run code when they are made; nothing"
            " of it was read. Where it comes from, save the tensors alone: torch.save(net.state_dict(), 'weights.pt')"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        if "TorchScript" in str(error):
            raise RunError(
                f"{path}: is a TorchScript program, which would run when it is read; nothing of it was read."
                " Where it comes from, save the tensors alone: torch.save(net.state_dict(), 'weights.pt')"
            ) from None
        raise RunError(_damaged(path, " ".join(str(error).split())[:160] or type(error).__name__)) from None


def _damaged(path: Path, why: str) -> str:
    return (
        f"{path}: not a whole file of weights ({why}); take it again from where it came: a safetensors file, or one"
        " that torch.save(net.state_dict()) wrote"
    )


def _numbers() -> list[Any]:
    """numpy's numbers: training programs keep losses as such beside the weights. Making them runs nothing else."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "?")}
    return [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")] + [np.dtype, *kinds]


def _tensors_of(path: Path, content: Any) -> Checkpoint:
    """The mapping of names to tensors in what a file holds, at most one level deep."""
    if not isinstance(content, Mapping):
        raise RunError(f"{path}: holds a {type(content).__name__}, not tensors by name; save net.state_dict()")
    candidates = {"": content} | {
        key: content[key] for key in NESTED if isinstance(content.get(key), Mapping) and _has_tensors(content[key])
    }
    nested = "" if _has_tensors(content) else next((key for key in candidates if key), "")
    chosen = candidates[nested]
    if not _has_tensors(chosen):
        keys = ", ".join(str(key) for key in list(content)[:8]) or "nothing"
        raise RunError(
            f"{path}: holds no tensors by name, neither as it is nor under {', '.join(NESTED)}; its entries are"
            f" {keys}; save net.state_dict()"
        )
    tensors = {str(name): value.detach() for name, value in chosen.items() if isinstance(value, Tensor)}
    skipped = tuple(str(name) for name, value in chosen.items() if not isinstance(value, Tensor))
    return Checkpoint(path, "torch", tensors, nested, skipped)


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())
