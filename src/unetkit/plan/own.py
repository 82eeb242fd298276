"""Networks and parts of the user's own in a request: which they are, and when their code may run.

Passed as callables they are trusted, since the caller holds them. As `module:name` they are imported only where the
request says `trust`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from unetkit.core.errors import PlanError, SpecError
from unetkit.nets.parts import load, trust, untrusted
from unetkit.nets.presets import preset
from unetkit.nets.spec import PARTS, REFERENCE, NetSpec, reference
from unetkit.plan.plan import Request

_PART_FIELDS = tuple(f"net.{field}" for field in PARTS)


def with_code(request: Request) -> Request:
    """The request with what `module:name` stands for.

    Raises SpecError: not trusted, not to be found, or a callable that a run could not find again by its name.
    """
    for name, code in code_of(request).items():
        if not REFERENCE.fullmatch(name) or hasattr(code, "func"):
            what = "a functools.partial" if hasattr(code, "func") else f"'{name}'"
            raise SpecError(
                f"{what} cannot be found again by name when the run is read; define the part as a class or function at "
                "the top of a module"
            )
    names = {"model": request.model} | {f: request.settings[f] for f in _PART_FIELDS if f in request.settings}
    references = {field: name for field, name in names.items() if isinstance(name, str) and REFERENCE.fullmatch(name)}
    if not references:
        return request
    if not request.trust:
        field, name = next(iter(references.items()))
        flag = "--model" if field == "model" else f"--set {field}="
        raise SpecError(f"{flag} {name}: is code of your own; it is imported, and so run, only with --trust")
    found = {field: load(name) for field, name in references.items()}
    model = found.pop("model", request.model)
    return request.model_copy(update={"model": model, "settings": request.settings | found})


def code_of(request: Request) -> dict[str, Callable[..., Any]]:
    """The callables in a request, by the names that files know them under."""
    values = [request.model, *(request.settings.get(field) for field in _PART_FIELDS)]
    if isinstance(request.model, NetSpec):
        values += [getattr(request.model, field) for field in PARTS]
    return {reference(value): value for value in values if callable(value)}


def trusted(net: NetSpec, known: Mapping[str, Callable[..., Any]], everything: bool) -> NetSpec:
    """A network read from a file, with what `module:name` stands for: callables that are `known`; with `everything` the
    rest is imported."""
    changes = {
        field: known[name] for field in PARTS if (name := getattr(net, field)) in known and isinstance(name, str)
    }
    net = net.replace(changes) if changes else net
    return trust(net) if everything and untrusted(net) else net


def asked_network(request: Request, ndim: int) -> NetSpec | None:
    """The network that a request names, in `ndim` axes; None where it names none.

    Raises SpecError: no such preset; PlanError: a spec for data of other axes.
    """
    model = request.model
    if model is None:
        return None
    if isinstance(model, NetSpec):
        if model.ndim != ndim:
            raise PlanError(f"model: the network has {model.ndim} axes, the data have {ndim}; set its ndim to {ndim}")
        return model
    if isinstance(model, str):
        return preset(model).form(ndim)
    return NetSpec(ndim=ndim, channels=(1,), topology=model)


def pinned(request: Request) -> bool:
    """Whether the network is taken exactly as it is: a spec or code of the user's own."""
    return request.model is not None and not isinstance(request.model, str)


def model_name(request: Request) -> str:
    """What to call the network that was asked for."""
    if isinstance(request.model, str):
        return f"--model {request.model}"
    return "a NetSpec" if isinstance(request.model, NetSpec) else f"--model {reference(request.model)}"
