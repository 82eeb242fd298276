"""One contestant on one set, in a process of its own: trains, predicts the held-out cases, scores them.

    python benchmarks/arena/contest.py TASK.json

Started by run.py, which writes TASK.json and reads OUTCOME.json beside it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # benchmarks/, where `arena` is
from arena.contestants import contestant  # noqa: E402
from arena.contestants.task import Task  # noqa: E402
from arena.scoring import score  # noqa: E402
from arena.sets import SETS  # noqa: E402
from unetkit.core.files import write_text  # noqa: E402


def main() -> None:
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    file = Path(sys.argv[1])
    given = json.loads(file.read_text(encoding="utf-8"))
    if hasattr(os, "sched_setaffinity"):  # the same cores for whatever the contestant starts
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given["threads"]])
    kind = SETS[given["set"]]
    asked = {key: given[key] for key in ("minutes", "began", "threads", "seed", "settings")}
    task = Task(kind, Path(given["data"]), file.parent, **asked)
    outcome = contestant(given["contestant"]).compete(task)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    began = time.time()
    scores = {case.id: score(kind, case, task.out) for case in task.test_cases}
    result = {
        **dataclasses.asdict(outcome),
        "processor_seconds": sum(one.ru_utime + one.ru_stime for one in used),
        "score_seconds": time.time() - began,
        "groups": {case.id: case.group for case in task.test_cases},
        "scores": scores,
    }
    write_text(file.parent / "outcome.json", json.dumps(result))


def end_with(parent: int) -> None:
    """End this process and all that it started when the arena is killed: an orphan would disturb the next entry."""
    while os.getppid() == parent:
        time.sleep(2)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
