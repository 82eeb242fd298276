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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from unetkit.core.errors import SpecError
from unetkit.nets.program import Value, Writer
from unetkit.nets.spec import PARTS, REFERENCE, NetSpec

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
        return w.module(lambda: make(x.channels, channels), (x,), channels, **_declared(make))

    return block


def _own_skip(make: Any) -> Any:
    def skip(w: Writer, kept: Value, below: Value, coarse: Value, stride: Any) -> Value:  # noqa: ARG001
        from unetkit.nets.own import result_channels

        kept = w.crop(kept, like=below)

        def build() -> Any:
            return make(kept.channels, below.channels)

        channels = result_channels(build, (kept.channels, below.channels), w.spec.ndim)
        return w.module(build, (kept, below), channels, **_declared(make))

    return skip


def _own_bottleneck(make: Any) -> Any:
    return lambda w, x, _kernel: w.module(lambda: make(x.channels), (x,), x.channels, **_declared(make))


def _own_head(make: Any) -> Any:
    return lambda w, x, channels: w.module(lambda: make(x.channels, channels), (x,), channels, **_declared(make))


def _own_network(make: Any) -> Any:
    def whole(w: Writer) -> tuple[Value, ...]:
        spec = w.spec
        declared = {"multiple": DIVISOR, **_declared(make)}
        with w.part("network"):
            build = lambda: make(spec.in_channels, spec.classes)  # noqa: E731 - a layer keeps it as a value
            return (w.module(build, (w.input(),), spec.classes, **declared),)

    return whole


def _declared(make: Any) -> dict[str, Any]:
    """What the class of a module says about itself."""
    named = getattr(make, "func", make)
    found = {"halo": getattr(named, "halo", None), "multiple": getattr(named, "divisor", None)}
    return {name: value for name, value in found.items() if value is not None}


_MODULES: dict[str, Callable[[Any], Any]] = {
    "block": _own_block,
    "decoder_block": _own_block,
    "skip": _own_skip,
    "bottleneck": _own_bottleneck,
    "head": _own_head,
    "topology": _own_network,
}
