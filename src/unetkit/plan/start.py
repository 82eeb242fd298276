"""What a run that begins with another one (`--start`) takes over from it: the network's form, and how images are
prepared for it. Its weights are taken by the job."""

from __future__ import annotations

from pathlib import Path

from unetkit.core.errors import PlanError
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.spec import NetSpec
from unetkit.plan.own import code_of, trusted
from unetkit.plan.plan import Plan, Request


def begun(request: Request, ndim: int) -> tuple[Plan | None, NetSpec | None]:
    """The plan of the run to begin with, and its network unless another one is asked for.

    Raises RunError, PlanError: no such run, or one for data of other axes than `ndim`.
    """
    if request.start is None:
        return None, None
    earlier = Plan.load(Path(request.start) / "plan.json")
    net = trusted(earlier.net, code_of(request), request.trust)
    if earlier.net.ndim != ndim:
        raise PlanError(
            f"--start {request.start}: its network takes data of {earlier.net.ndim} axes, these have {ndim}; begin with"
            " a run on such data, or without --start"
        )
    return earlier, net if request.model is None else None


def prepared_as(earlier: Plan | None, prepare: PreparePlan, request: Request) -> tuple[PreparePlan, dict[str, str]]:
    """The preparation that the earlier network knows, where it takes such images as the rules' `prepare`; and why."""
    if earlier is None or (earlier.prepare.channels, earlier.prepare.colour) != (prepare.channels, prepare.colour):
        return prepare, {}
    why = f"as in {request.start}, whose weights know such images"
    fields = ["prepare.normalise", "prepare.method"]
    fields += [f"prepare.{name}" for name in ("spacing", "orientation") if getattr(earlier.prepare, name)]
    return earlier.prepare, dict.fromkeys(fields, why)
