"""Parts by name, and parts of the user's own: a function that writes layers, or a torch module. Does not import torch.

A spec may hold a callable in the place of a name. Two kinds fit:

- a function with the arguments of the functions in that part's file (`blocks.plain` and its neighbours): it writes
  layers, and everything about the network stays known before it is built;
- a class of torch module (or a `functools.partial` of one): called with widths, it gives a module that keeps the size
  of a map. block: `(in_channels, channels)`; skip: `(kept_channels, below_channels)`, taking two maps; bottleneck:
  `(channels)`; head: `(in_channels, classes)`; topology, a whole network: `(in_channels, classes)`. Its attribute
  `halo` says how many pixels around a pixel matter, where that is known, `divisor` what sizes must be a multiple of.

In files and flags such a part is called `module:name`. That is only a name: nothing is imported before `trust`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from unetkit.core.errors import SpecError
from unetkit.nets.program import INPUT, Value, Writer
from unetkit.nets.spec import PARTS, REFERENCE, NetSpec, reference

Made = TypeVar("Made", bound=Callable[..., Any])

# Sizes are padded to multiples of this for a whole network of the user's that does not say what it needs.
DIVISOR = 32


def resolve(field: str, part: Any, table: Mapping[str, Made]) -> Any:
    """The function of a part: that of the table, or what stands for the user's own.

    Raises SpecError: `module:name` that nobody trusted yet; a torch module where none fits.
    """
    if isinstance(part, str) and part in table:
        return table[part]
    if isinstance(part, str):
        raise SpecError(
            f"net.{field} '{part}' is code of your own; it is run only where you say so: --trust, or "
            "unetkit.nets.trust(spec) in Python"
        )
    if not isinstance(getattr(part, "func", part), type):
        return part
    if field not in _MODULES:
        raise SpecError(
            f"net.{field}: {part!r} is a class of torch module, which must keep the size of a map; a part that changes "
            f"it is a function that writes layers, such as those in unetkit.nets.{field}s"
        )
    return _MODULES[field](part)


def untrusted(spec: NetSpec) -> tuple[str, ...]:
    """The names `module:name` in a spec that nobody trusted yet."""
    values = {field: getattr(spec, field) for field in PARTS}
    return tuple(dict.fromkeys(v for f, v in values.items() if isinstance(v, str) and v not in PARTS[f]))


def trust(spec: NetSpec) -> NetSpec:
    """The spec with every `module:name` replaced by what it names: imports, and so runs, that code.

    Modules are looked for in the current folder too. Raises SpecError: no such module, or nothing of that name in it.
    """
    found = {name: load(name) for name in untrusted(spec)}
    changes = {field: found[value] for field in PARTS if (value := getattr(spec, field)) in found and value is not None}
    return spec.replace(changes) if changes else spec


def load(name: str) -> Any:
    """Import what `module:name` names, the current folder included. Raises SpecError."""
    if not REFERENCE.fullmatch(name):
        raise SpecError(f"'{name}' is no name of code; write module:name, for example my_parts:MyBlock")
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SpecError(
            f"'{name}': there is no module '{error.name}' here; call from the folder that holds "
            f"{module_name.split('.')[0]}.py, or install it"
        ) from None
    try:
        for part in attribute.split("."):
            value = getattr(value, part)
    except AttributeError:
        raise SpecError(f"'{name}': module {module_name} has no '{attribute}'; it holds {_public(value)}") from None
    if not callable(value):
        raise SpecError(f"'{name}' is a {type(value).__name__}; a part is a function or a class")
    return value


def _public(module: Any) -> str:
    names = [name for name in vars(module) if not name.startswith("_") and callable(getattr(module, name))]
    return ", ".join(names) or "nothing that could be a part"


def _own_block(make: Any) -> Any:
    def block(w: Writer, x: Value, channels: int, kernel: Any, count: int, stride: Any) -> Value:  # noqa: ARG001
        # a module keeps the size: where the block has a stride, the map is pooled before
        x = w.pool("max", x, stride)
        return _module(w, make, (x.channels, channels), (x,), channels)

    return block


def _own_skip(make: Any) -> Any:
    def skip(w: Writer, kept: Value, below: Value, coarse: Value, stride: Any) -> Value:  # noqa: ARG001
        kept = w.crop(kept, like=below)
        return _module(w, make, (kept.channels, below.channels), (kept, below))

    return skip


def _own_bottleneck(make: Any) -> Any:
    return lambda w, x, _kernel: _module(w, make, (x.channels,), (x,), x.channels)


def _own_head(make: Any) -> Any:
    return lambda w, x, channels: _module(w, make, (x.channels, channels), (x,), channels)


def _own_network(make: Any) -> Any:
    def whole(w: Writer) -> tuple[Value, ...]:
        spec = w.spec
        with w.part("network"):
            return (_module(w, make, (spec.in_channels, spec.classes), (w.input(),), spec.classes, DIVISOR),)

    return whole


def _module(
    w: Writer, make: Any, widths: tuple[int, ...], xs: Sequence[Value], channels: int = 0, divisor: int = 1
) -> Value:
    """A layer of the module that `make(*widths)` builds. `channels`: what it must give (0: what it gives)."""
    from unetkit.nets.own import result_channels  # only that knows torch

    named = getattr(make, "func", make)
    known = {name: getattr(named, name, None) for name in ("halo", "divisor")}
    for name, value in known.items():
        if value is not None and (not isinstance(value, int) or value < (name == "divisor")):
            raise SpecError(f"{reference(make)}: its {name} is {value!r}; it must be a whole number of pixels")
    multiple = known["divisor"] or divisor

    def build() -> Any:
        return make(*widths)

    integers = bool(w.spec.vocabulary) and xs[0].name == INPUT
    side = -(-DIVISOR // multiple) * multiple
    found = result_channels(reference(make), build, [x.channels for x in xs], (side,) * w.spec.ndim, integers)
    if channels and found != channels:
        raise SpecError(
            f"{reference(make)}: called with {', '.join(map(str, widths))} it gives maps of {found} channels; it must "
            f"give {channels}"
        )
    return w.module(build, xs, found, halo=known["halo"], multiple=multiple)


_MODULES: dict[str, Callable[[Any], Any]] = {
    "block": _own_block,
    "decoder_block": _own_block,
    "skip": _own_skip,
    "bottleneck": _own_bottleneck,
    "head": _own_head,
    "topology": _own_network,
}
