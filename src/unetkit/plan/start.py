"""What a run that begins with another one (`--start`) takes over from it: the network's form, and how images are
prepared for it. Its weights are taken by the job."""

from __future__ import annotations

from pathlib import Path

from unetkit.core.errors import PlanError
from unetkit.data.prepare import PreparePlan
from unetkit.nets.spec import NetSpec
from unetkit.plan.plan import Plan, Request


def begun(request: Request, ndim: int, prepare: PreparePlan) -> tuple[NetSpec | None, PreparePlan, dict[str, str]]:
    """The network to begin with (None: the rules or `--model` choose it), the preparation, and why.

    `prepare` is what the rules chose for data of `ndim` axes; where the earlier network takes such images too, they are
    prepared as it knows them. Raises RunError, PlanError: no such run, or one for data of other axes.
    """
    if request.start is None:
        return None, prepare, {}
    earlier = Plan.load(Path(request.start) / "plan.json")
    why: dict[str, str] = {}
    if earlier.net.ndim != ndim:
        raise PlanError(
            f"--start {request.start}: its network takes data of {earlier.net.ndim} axes, these have {ndim}; begin with"
            " a run on such data, or without --start"
        )
    if (earlier.prepare.channels, earlier.prepare.colour) == (prepare.channels, prepare.colour):
        prepare = earlier.prepare
        why = dict.fromkeys(
            ("prepare.normalise", "prepare.method"), f"as in {request.start}, whose weights know such images"
        )
    if request.model is not None:
        return None, prepare, why
    return earlier.net, prepare, why
