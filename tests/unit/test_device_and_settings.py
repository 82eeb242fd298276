"""Devices by name; what the command line sets for threads that wait."""

from __future__ import annotations

import os

import pytest
import torch

from unetkit.core.device import find_device
from unetkit.core.errors import MachineError
from unetkit.core.settings import patient_threads


def test_cpu_is_always_there() -> None:
    assert find_device("cpu") == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_absent_is_named_with_those_that_are_there() -> None:
    with pytest.raises(MachineError, match=r"--device cuda: this machine has cpu.*; choose one of them, or auto"):
        find_device("cuda")
    with pytest.raises(MachineError, match="did you mean 'cpu'"):
        find_device("cpuu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_auto_takes_the_gpu() -> None:
    assert find_device("auto") == find_device("cuda") == "cuda:0"


def test_waiting_threads_soon_sleep_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    patient_threads()
    assert os.environ["GOMP_SPINCOUNT"] == "5000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    patient_threads()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    patient_threads()
    assert "GOMP_SPINCOUNT" not in os.environ
