"""Everything that survives a restart, in one file that is whole or absent: state.safetensors in the run folder.

Tensors: the network, its average, the optimiser's moments, and what else is counted on the way. Numbers (steps,
seconds, best score …) are text in the file's header. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from unetkit.core.config import Config
from unetkit.core.errors import RunError
from unetkit.core.files import write_bytes
from unetkit.nets.build import UNet
from unetkit.train.average import Average
from unetkit.train.hard import HardCases

NAME = "state.safetensors"


class Position(Config):
    """Where a run stands. `elapsed`: seconds of training, over all sittings."""

    plan: str
    step: int = Field(default=0, ge=0)
    elapsed: float = Field(default=0.0, ge=0)
    mark: int = 0
    """Number of the last validation."""
    loss: float | None = None
    best: float | None = None
    """Dice of the weights that are kept."""
    peak: float | None = None
    """Highest Dice so far (the weights kept may be later ones that are as good)."""
    best_step: int | None = None
    joined: int | None = None
    """The step after which the validation images were learnt from; None: they are not."""
    settled: float | None = None
    looks: tuple[float, ...] = ()
    reserve: float = 0.0
    log_bytes: int = 0
    """Length of events.jsonl when the state was saved."""
    finished: bool = False


@dataclass(frozen=True)
class Learner:
    """All that learns in a run, and changes with every step."""

    net: UNet
    average: Average
    optimiser: torch.optim.Optimizer
    hard: HardCases | None = None

    @property
    def counts(self) -> dict[str, Average | HardCases]:
        """The parts that keep more than weights and moments, by their names in the file."""
        return {"averaged": self.average, **({} if self.hard is None else {"hard": self.hard})}


def save_state(run: Path, learner: Learner, position: Position) -> None:
    """Write the state, whole or not at all. Raises MachineError where the disk refuses."""
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in (("net", learner.net), ("average", learner.average.net)):
        for name, tensor in module.state_dict().items():
            tensors[f"{prefix}/{name}"] = tensor.detach().cpu().contiguous()
    for index, values in learner.optimiser.state_dict()["state"].items():
        for name, tensor in values.items():
            if tensor is not None:
                tensors[f"optim/{index}/{name}"] = tensor.detach().cpu().contiguous()
    for prefix, part in learner.counts.items():
        tensors |= {f"{prefix}/{name}": tensor.contiguous() for name, tensor in part.state().items()}
    # through bytes, not `save_file`: that one reports a full disk as an error of its own kind
    write_bytes(run / NAME, save(tensors, metadata={"position": position.model_dump_json()}))


def read_position(run: Path) -> Position | None:
    """Where the run in this folder stands; None where nothing was saved. Raises RunError for a damaged file."""
    path = run / NAME
    if not path.exists():
        return None
    try:
        # the header alone, through one handle: the file may be replaced by its next state while it is read
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        return Position.parse(json.loads(header["__metadata__"]["position"]), str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: the saved state is damaged ({error}); delete this file to start over") from None


def load_state(run: Path, learner: Learner) -> None:
    """Put the saved tensors back. Raises RunError for a damaged file or one of another network."""
    path = run / NAME
    parts: dict[str, dict[str, torch.Tensor]] = {name: {} for name in ("net", "average", *learner.counts)}
    optimiser = learner.optimiser
    moments: dict[int, dict[str, Any]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (a file handle, not a dict)
                head, _, rest = name.partition("/")
                if head == "optim":
                    index, _, field = rest.partition("/")
                    moments.setdefault(int(index), {})[field] = file.get_tensor(name)
                else:
                    parts[head][rest] = file.get_tensor(name)
        learner.net.load_state_dict(parts["net"])
        learner.average.net.load_state_dict(parts["average"])
        for name, part in learner.counts.items():
            part.restore(parts[name])
        if moments:
            optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
            _match_layout(optimiser)
    except (SafetensorError, KeyError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path}: the saved state is damaged or of another network ({reason}); delete this file to start over"
        ) from None


def _match_layout(optimiser: torch.optim.Optimizer) -> None:
    """Give the moments the memory layout of their parameters: the fused update walks them side by side in memory."""
    for parameter, values in optimiser.state.items():
        for name, tensor in values.items():
            if isinstance(tensor, torch.Tensor) and tensor.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(tensor)
