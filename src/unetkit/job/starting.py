"""Fine-tuning: a new run that begins with the weights of another. They are copied once into the new run's folder."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from unetkit.core.events import Decided, Event, Warned
from unetkit.core.rng import key
from unetkit.nets.build import build
from unetkit.nets.checkpoint import COUNTER
from unetkit.nets.transfer import transfer
from unetkit.nets.weights import read_weights, save_weights
from unetkit.plan.plan import Plan
from unetkit.predict.load import WEIGHTS, load_plan, members
from unetkit.train.loop import START


@dataclass(frozen=True)
class Start:
    """The run that training begins with: its folder, its plan, and its best weights."""

    run: Path
    plan: Plan
    weights: dict[str, Tensor]


def read_start(run: str | None) -> Start | None:
    """The run of `--start`; of a run in folds, the first of them. Raises RunError, PlanError: no such folder, not a
    run, no weights yet, damaged."""
    if run is None:
        return None
    plan = load_plan(Path(run))
    folder = members(Path(run), plan)[0]
    return Start(folder, plan, read_weights(folder / WEIGHTS)[0])


def begin_with(start: Start, run: Path, plan: Plan) -> Generator[Event, None, None]:
    """Write what of the start's weights fits the planned network into the folder `run`, and say what does not.

    Raises MachineError where the disk refuses.
    """
    net = build(plan.net, seed=key(plan.seed, "weights"))  # as training draws it
    found = transfer(net, plan.data.legend.names, start.weights, start.plan.data.legend.names)
    save_weights(found.state, run / START, {"from": start.run.name})
    total = len(found.state) + len(found.drawn)
    yield Decided(
        what="start",
        value=f"{len(found.state)} of {total} tensors from {start.run}",
        why="they have the same name and shape here" if found.state else "nothing of it fits this network",
    )
    if start.plan.data.folds > 1:
        message = f"{start.run.parent.parent} was trained in folds: training begins with the network of the first alone"
        yield Warned(message=message)
    if found.spread:
        there, here = start.plan.net.in_channels, plan.net.in_channels
        yield Warned(
            message=f"{_names(found.spread)}: channels, {there} in {start.run}, {here} here; each begins with"
            " an equal share of what was learnt"
        )
    for classes in sorted(set(found.rows.values())):
        new = [name for name in plan.data.legend.names if name not in classes]
        heads = [name for name, known in found.rows.items() if known == classes]
        if new:
            message = f"{_names(heads)}: known from {start.run}: {', '.join(classes)}; drawn anew: {', '.join(new)}"
            yield Warned(message=message)
    left = [name for name in start.weights if not name.endswith(COUNTER) and name not in {*found.state, *found.drawn}]
    if left:
        yield Warned(message=f"{len(left)} tensors of {start.run} have no place in this network: {_names(left)}")
    if found.drawn:
        yield Warned(message=f"{len(found.drawn)} of {total} tensors are drawn anew: {_names(found.drawn)}")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
