"""The only place that touches environment variables."""

from __future__ import annotations

import os


def patient_threads() -> None:
    """Let threads that wait for each other soon sleep rather than spin on. Call it before torch is loaded; a user's own
    choice stays.

    On a machine that others use too, spinning threads hold the processor that the awaited thread needs: a training step
    on two busy cores took several times as long. On a quiet machine it costs a few per cent (benchmarks/README.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
