"""Every random draw comes from a key: (seed, purpose, epoch or step, index). Never from global state.

The order of samples therefore depends neither on the number of workers nor on an interruption.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def key(seed: int, *parts: int | str) -> int:
    """A 63-bit number that depends on every part and on their order; equal on every machine and Python."""
    text = "\x1f".join([str(int(seed)), *(f"{type(p).__name__}:{p}" for p in parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A numpy generator for this key."""
    return np.random.Generator(np.random.PCG64(key(seed, *parts)))


def torch_generator(seed: int, *parts: int | str) -> torch.Generator:
    """A torch CPU generator for this key."""
    import torch

    return torch.Generator().manual_seed(key(seed, *parts))
