"""Which devices this machine has, by the names that users write. Loads torch when it is asked."""

from __future__ import annotations

from unetkit.core.errors import MachineError, nearest


def find_device(name: str) -> str:
    """The device for 'auto' (the first GPU where there is one), 'cpu', 'cuda', 'cuda:1' or 'mps'.

    Raises MachineError: this machine has no such device.
    """
    import torch

    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name == "auto":
        return here[1] if len(here) > 1 else "cpu"
    full = "cuda:0" if name == "cuda" else name
    if full not in here:
        raise MachineError(
            f"--device {name}: this machine has {', '.join(here)}; choose one of them, or auto{nearest(name, here)}"
        )
    return full
