"""Weights: drawn from a seed, written to and read from safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from unetkit.core.errors import RunError
from unetkit.core.files import write_bytes
from unetkit.nets.program import CONVOLUTIONS, Layer, Program


@torch.no_grad()
def initialise(net: nn.Module, program: Program, generator: torch.Generator) -> None:
    """Draw the weights of a program's modules: normal with variance g/fan-in (He 2015), g = 2 in front of an activation
    and 1 in front of none; biases zero; norms the identity. The fan-in of a transposed convolution counts what one
    output pixel receives."""
    rectified = program.before_activation()
    for layer in program.layers:
        module = net.get_submodule(layer.module)
        if layer.weights:
            continue
        if layer.kind == "module":
            _reset(module, layer, generator)
        elif layer.kind in ("embed", "positions"):
            deviation = 0.02 if layer.kind == "positions" else 1.0  # Dosovitskiy 2021; as torch draws embeddings
            _draw(next(module.parameters()), deviation, generator)
        elif layer.kind in CONVOLUTIONS:
            taps = prod(layer.kernel) if layer.kind != "transposed" else prod(layer.kernel) / prod(layer.stride)
            fan_in = layer.in_channels // layer.groups * max(taps, 1)
            deviation = sqrt((2.0 if layer.name in rectified else 1.0) / fan_in)
            for name, parameter in module.named_parameters():
                if name.endswith("weight"):
                    _draw(parameter, deviation, generator)
                else:
                    nn.init.zeros_(parameter)
        elif (reset := getattr(module, "reset_parameters", None)) is not None:
            reset()


def _draw(parameter: Tensor, deviation: float, generator: torch.Generator) -> None:
    drawn = torch.empty(parameter.shape, dtype=torch.float32).normal_(0.0, deviation, generator=generator)
    parameter.copy_(drawn)


def _reset(module: nn.Module, layer: Layer, generator: torch.Generator) -> None:
    """A module of the user's own draws as it was written to, from our seed; torch's generator stays as it was."""
    assert layer.make is not None
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        module.load_state_dict(layer.make().state_dict())


def save_weights(
    source: nn.Module | Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state as safetensors, atomically. `metadata`: short texts kept in the header.

    Raises MachineError: full disk, folder not writable.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    # safetensors takes dense row-major tensors that share no memory
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    write_bytes(path, save(tensors, dict(metadata) if metadata else None))


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file. Raises RunError: absent, or not a whole safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except FileNotFoundError:
        raise RunError(
            f"{path}: there is no such file of weights; is its folder one that `unetkit train` wrote?"
        ) from None
    except (SafetensorError, OSError) as error:
        raise RunError(
            f"{path}: not a whole safetensors file ({error}); take it again from where it came, or train again"
        ) from None


@dataclass(frozen=True)
class Mismatch:
    """What of a file of weights did not fit: names it lacks, names the network lacks, names of another shape."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.misshapen)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in (("missing", self.missing), ("extra", self.extra), ("of another shape", self.misshapen))
            if names
        ]
        return "; ".join(parts)


def load_weights(module: nn.Module, path: Path, strict: bool = True) -> Mismatch:
    """Copy the tensors of a safetensors file into a module, by name.

    With `strict` everything must fit, or RunError says what is missing, extra or of another shape, and the module is
    left as it was. Without it, what fits is loaded and the rest is returned.
    """
    found, _ = read_weights(path)
    own = module.state_dict()
    misshapen = [
        f"{name}: {_shape(found[name])} in the file, {_shape(own[name])} in the network"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    report = Mismatch(
        missing=tuple(name for name in own if name not in found),
        extra=tuple(name for name in found if name not in own),
        misshapen=tuple(misshapen),
    )
    if strict and report:
        raise RunError(f"{path}: these weights are of another network: {report}; build the network that they came from")
    fitting = {name: value for name, value in found.items() if name in own and value.shape == own[name].shape}
    module.load_state_dict(fitting, strict=False)
    return report


def _shape(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) or "scalar"
