"""The only place that touches environment variables."""

from __future__ import annotations

import os


def patient_threads() -> None:
    """Let threads that wait for each other sleep rather than spin. Call it before torch is loaded; a user's own choice
    of OMP_WAIT_POLICY stays.

    On a machine that others use too, spinning threads hold the processor that the awaited thread needs: a training step
    on two busy cores took several times as long (see benchmarks/README.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
