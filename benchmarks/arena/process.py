"""One contestant in a process of its own, watched from outside: how far it is, and what else runs on the machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from arena import entries
from arena.sets import SETS, prepare

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Order:
    """What is run: everything that decides the result, but the versions and the machine."""

    set: str
    contestant: str
    minutes: float
    seed: int
    threads: int
    settings: Mapping[str, Any]

    def digest(self, folder: Path) -> str:
        """Changes with the order and with the held-out cases of the set in `folder`."""
        kind = SETS[self.set]
        held = sorted(case.id for case in kind.held_out(kind.cases(folder / self.set)))
        return entries.digest([asdict(self), held])


def compete(label: str, order: Order, folder: Path, work: Path) -> entries.Entry:
    """Run it in `work/label`, with the sets of `folder`, and give its entry.

    Raises CalledProcessError where it fails; what it printed is in `work/label/log.txt`.
    """
    place = work / label
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    data = prepare(SETS[order.set], folder / order.set, work / "data")
    about = {
        **asdict(order),
        "rule": SETS[order.set].rule,
        "digest": order.digest(folder),
        "began": datetime.now().isoformat(timespec="seconds"),
        "versions": entries.versions(),
        "machine": entries.machine(),
        "source": entries.source(),
    }
    threads = str(order.threads)
    # patient threads for all: unetkit's command line asks for them by itself
    patient = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "GOMP_SPINCOUNT": "5000"}
    began = time.time()
    task = {**asdict(order), "data": str(data.resolve()), "began": began}
    (place / "task.json").write_text(json.dumps(task), encoding="utf-8")
    command = [sys.executable, str(HERE / "contest.py"), str((place / "task.json").resolve())]
    with (place / "log.txt").open("wb") as log:
        environment = {**os.environ, **patient, "PYTHONUNBUFFERED": "1"}
        # a session of its own, so that whatever the contestant starts can be ended with it
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            load = watch(process, place / "log.txt", began)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return {**about, "load": load, **json.loads((place / "outcome.json").read_text(encoding="utf-8"))}


def watch(process: subprocess.Popen[bytes], log: Path, began: float) -> dict[str, float]:
    """Wait for the process, say every minute how far it is, and give the load average of the machine meanwhile."""
    loads, said = [os.getloadavg()[0]], time.time()
    while True:
        try:
            process.wait(timeout=10)
            break
        except subprocess.TimeoutExpired:
            loads.append(os.getloadavg()[0])
        if time.time() - said >= 60:
            said = time.time()
            lines = log.read_bytes()[-2000:].decode(errors="replace").replace("\r", "\n").strip().splitlines()
            say(f"    {(said - began) / 60:.0f} min: {lines[-1][-100:] if lines else ''}")
    return {"before": round(loads[0], 2), "mean": round(sum(loads) / len(loads), 2), "most": round(max(loads), 2)}


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)
