"""Which setting is the better default: a grid of settings, the same steps and seeds for each, on several sets.

    python benchmarks/defaults.py DATA NAME --grid schedule average --sets em nuclei --steps 1500 --seeds 0 1 --arena
    python benchmarks/defaults.py DATA NAME --table           the table again, from what was run
    python benchmarks/defaults.py --grids                     what the grids are

DATA holds a folder per set; with --arena the cases that the arena holds out are held out of each (links are made), with
--held-out FOLDER those in FOLDER/SET are. Every run is `unetkit train SET --steps N --seed S --precision bf16 --set …`
in a process of its own, one after the other. Its scores on its own validation cases are taken, and on the held-out ones
(`unetkit evaluate RUN FOLDER`). `results/NAME.json` grows by one entry per run, and `results/NAME.md` is made of it.
A killed study goes on: finished runs stay, the one that was going on is resumed by unetkit. Other grids, sets and seeds
may be added to the same NAME.

Equal steps, not minutes: nothing here depends on what else the machine does. What changes the cost of a step (deep
supervision, dropout) must be weighed against it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.files import write_text

HERE = Path(__file__).resolve().parent
PLANNED = "as planned"
RESAMPLES = 2000

Settings = dict[str, str]


def _each(field: str, *values: object, **more: str) -> dict[str, Settings]:
    return {str(value): {field: str(value), **more} for value in values}


# The first entry of every grid is what the plan says by itself; the others are compared with it.
GRIDS: dict[str, dict[str, Settings]] = {
    "schedule": {
        PLANNED: {},
        **_each("optim.schedule", "poly", "linear", "level"),
        "restarts, 3": {"optim.schedule": "restarts", "optim.cycles": "3"},
        "constant, swa": {"optim.schedule": "constant", "optim.average": "swa"},
    },
    "average": {
        PLANNED: {},
        "none": {"optim.average": "none"},
        "swa, last quarter": {"optim.average": "swa"},
        "swa, last half": {"optim.average": "swa", "optim.swa_from": "0.5"},
        "ema 0.95": {"optim.ema": "0.95"},
        "ema 0.995": {"optim.ema": "0.995"},
    },
    "optimiser": {
        PLANNED: {},
        **_each("optim.name", "sgd", "lion"),
        "sgd, poly": {"optim.name": "sgd", "optim.schedule": "poly"},
    },
    "lr": {PLANNED: {}, **_each("optim.lr", 5e-4, 1e-3, 4e-3, 8e-3)},
    "weight-decay": {PLANNED: {}, **_each("optim.weight_decay", 0, 1e-3, 5e-2, 0.2)},
    "clip": {PLANNED: {}, **_each("optim.clip", "null", 0.3, 5, 12)},
    "warm-up": {PLANNED: {}, **_each("optim.warmup", 0, 0.1)},
    "dropout": {
        PLANNED: {},
        "0.2 bottom": {"net.dropout": "0.2"},
        "0.1 blocks": {"net.dropout": "0.1", "net.dropout_at": "blocks"},
        "0.1 blocks, whole maps": {"net.dropout": "0.1", "net.dropout_at": "blocks", "net.dropout_of": "maps"},
    },
    "oversample": {PLANNED: {}, **_each("sampling.oversample", 0, 0.25, 0.5, 0.75)},
    "by-area": {PLANNED: {}, **_each("sampling.by_area", 0.5, 1)},
    "repeat": {PLANNED: {}, **_each("sampling.repeat", 0.3, 1)},
    "hard": {
        PLANNED: {},
        **_each("sampling.hard", 0.5, 1),
        "1, at most 1.5": {"sampling.hard": "1", "sampling.hard_most": "1.5"},
    },
    "class-weights": {PLANNED: {}, "none": {"loss.class_weights": "null"}},
    "loss": {
        PLANNED: {},
        **_each("loss.terms", "ce", "dice", "0.5*ce + dice", "ce + tversky(alpha=0.3)", "focal + dice", "ce + lovasz"),
    },
    "deep-supervision": {PLANNED: {}, "on": {"net.deep_supervision": "true"}},
    "batch": {PLANNED: {}, **_each("sampling.batch", 2, 4, 8)},
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run: a setting of a grid, on a set, with a seed."""

    grid: str
    setting: str
    set: str
    seed: int
    steps: int
    settings: tuple[tuple[str, str], ...]

    @property
    def key(self) -> list[object]:
        """What decides the result, whatever the grid is called: a setting that two grids share is run once."""
        return [self.set, self.seed, self.steps, sorted(map(list, self.settings))]


def main() -> int:
    args = arguments()
    if args.grids:
        for name, grid in GRIDS.items():
            print(f"{name}: " + "; ".join(grid))
        return 0
    file = args.out / f"{args.name}.json"
    entries = json.loads(file.read_text(encoding="utf-8"))["entries"] if file.exists() else []
    failed = 0
    for run in [] if args.table else runs(args):
        known = next((e for e in entries if e["key"] == run.key), None)
        if known is not None:
            if [run.grid, run.setting] not in known["names"]:
                known["names"].append([run.grid, run.setting])
                write(file, entries)
            continue
        print(f"{time.strftime('%H:%M:%S')} {run.grid}: {run.setting}, {run.set}, seed {run.seed}", flush=True)
        entry = carried_out(run, args)
        if entry is None:
            failed += 1
            continue
        entries.append(entry)
        write(file, entries)
    if entries:
        write(file, entries)
        print(f"{file.with_suffix('.md')}")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="a folder with a folder for each set")
    parser.add_argument("name", nargs="?", help="of the results")
    parser.add_argument("--grid", nargs="+", choices=GRIDS, default=list(GRIDS), metavar="GRID", help=", ".join(GRIDS))
    parser.add_argument("--sets", nargs="+", default=["em", "nuclei", "hippocampus"])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of all runs alike")
    parser.add_argument("--held-out", type=Path, help="a folder with a folder of held-out cases for each set")
    parser.add_argument("--arena", action="store_true", help="hold out what the arena holds out")
    parser.add_argument("--work", type=Path, default=Path("runs/defaults"), help="where runs lie until they are scored")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--keep", action="store_true", help="keep the run folders")
    parser.add_argument("--table", action="store_true", help="run nothing, make the table again")
    parser.add_argument("--grids", action="store_true", help="list the grids and their settings")
    args = parser.parse_args()
    if not args.grids and (args.data is None or args.name is None):
        parser.error("DATA and NAME are needed")
    return args


def runs(args: argparse.Namespace) -> Iterator[Run]:
    """All of them, seed by seed, so that a study that is cut short has one seed of everything."""
    base = dict(item.split("=", 1) for item in args.set)
    for seed in args.seeds:
        for grid in args.grid:
            for name in args.sets:
                for setting, changes in GRIDS[grid].items():
                    yield Run(grid, setting, name, seed, args.steps, tuple(sorted({**base, **changes}.items())))


def carried_out(run: Run, args: argparse.Namespace) -> dict[str, Any] | None:
    """The entry of a run, or None where it failed (its output is in log.txt beside it)."""
    train, held = folders(run.set, args)
    words = "_".join(part for pair in run.settings for part in pair)
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in words) or "planned"
    place = args.work / args.name / f"{run.set}-{run.steps}-{run.seed}-{plain}"
    place.mkdir(parents=True, exist_ok=True)
    folder = place / "run"
    began, load = time.time(), os.getloadavg()[0]
    command = ["train", str(train), "-o", str(folder), "--steps", str(run.steps), "--seed", str(run.seed)]
    command += ["--precision", "bf16", *(part for name, value in run.settings for part in ("--set", f"{name}={value}"))]
    if not unetkit(command, place):
        return None
    scores = {"validation": read_scores(folder)}
    if held is not None:
        if not unetkit(["evaluate", str(folder), str(held), "-o", str(place / "held-out")], place):
            return None
        scores["held-out"] = read_scores(place / "held-out")
    entry = {
        "key": run.key,
        "names": [[run.grid, run.setting]],
        "set": run.set,
        "seed": run.seed,
        "steps": run.steps,
        "settings": dict(run.settings),
        "commit": commit(),
        "seconds": round(time.time() - began),
        "load": round(load, 1),
        "scores": scores,
    }
    if not args.keep:
        shutil.rmtree(place)
    return entry


def folders(name: str, args: argparse.Namespace) -> tuple[Path, Path | None]:
    """What is trained on, and what is held out."""
    if not args.arena:
        return args.data / name, None if args.held_out is None else args.held_out / name
    from arena.sets import SETS, prepare

    place = args.work / args.name / "data" / name
    if not place.exists():
        prepare(SETS[name], args.data / name, place.parent)
    return place / "train", place / "test"


def unetkit(words: Sequence[str], place: Path) -> bool:
    """Run a command of unetkit; whether it succeeded."""
    with (place / "log.txt").open("ab") as log:
        done = subprocess.run([sys.executable, "-m", "unetkit", *words], stdout=log, stderr=log, check=False)
    if done.returncode:
        lines = (place / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        print(f"  failed: {lines[-1] if lines else ''} (see {place / 'log.txt'})", flush=True)
    return done.returncode == 0


def read_scores(folder: Path) -> dict[str, dict[str, float]]:
    """Measure → unit (a group of cases where groups are known, else a case) → mean."""
    rows = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["cases"]
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for measure in ("dice", "ap50"):
            if row.get(measure) is not None:
                found.setdefault(measure, {}).setdefault(row["group"] or row["case"], []).append(row[measure])
    return {m: {unit: float(np.mean(values)) for unit, values in units.items()} for m, units in found.items()}


def commit() -> str:
    words = ["git", "-C", str(HERE), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def write(file: Path, entries: list[dict[str, Any]]) -> None:
    """The entries and the table made of them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"entries": entries}, indent=1, ensure_ascii=False) + "\n")
    write_text(file.with_suffix(".md"), "\n".join(table(entries)) + "\n")


def table(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """For every grid: the score of what is planned on each set, and how far the others are from it."""
    yield "# Settings compared at equal steps"
    yield ""
    yield "Made by `benchmarks/defaults.py`; not edited by hand. In the first row the mean over seeds and cases; below,"
    yield "the difference to it on the same cases with the same seeds, with its 95 % bootstrap interval over cases and"
    yield "seeds. Bold: the interval leaves out 0. A few seeds say little of how seeds differ."
    for grid in GRIDS:
        mine = [e for e in entries if any(name[0] == grid for name in e["names"])]
        for part in ("held-out", "validation"):
            columns = sorted({(e["set"], m) for e in mine for m in e["scores"].get(part, {})})
            if not columns:
                continue
            steps, seeds = sorted({e["steps"] for e in mine}), sorted({e["seed"] for e in mine})
            yield ""
            yield f"## {grid}, {part} cases"
            yield ""
            yield f"{', '.join(map(str, steps))} steps; seeds {', '.join(map(str, seeds))}."
            yield ""
            yield "| | " + " | ".join(f"{name}, {measure}" for name, measure in columns) + " |"
            yield "|---|" + "---|" * len(columns)
            for setting in GRIDS[grid]:
                cells = [cell(mine, grid, setting, part, name, measure) for name, measure in columns]
                yield f"| {setting} | " + " | ".join(cells) + " |"


def cell(entries: Sequence[Mapping[str, Any]], grid: str, setting: str, part: str, name: str, measure: str) -> str:
    def by_seed(wanted: str) -> dict[int, dict[str, float]]:
        return {
            e["seed"]: e["scores"].get(part, {}).get(measure, {})
            for e in entries
            if e["set"] == name and [grid, wanted] in e["names"]
        }

    own, planned = by_seed(setting), by_seed(PLANNED)
    if setting == PLANNED:
        return f"{np.mean([np.mean(list(units.values())) for units in own.values()]):.4f}" if own else "–"
    pairs = [
        np.array([own[seed][unit] - planned[seed][unit] for unit in sorted(own[seed].keys() & planned[seed].keys())])
        for seed in sorted(own.keys() & planned.keys())
    ]
    pairs = [differences for differences in pairs if len(differences)]
    if not pairs:
        return "–"
    low, high = interval(pairs)
    text = f"{np.mean([p.mean() for p in pairs]):+.4f} ({low:+.4f} … {high:+.4f})"
    return f"**{text}**" if low > 0 or high < 0 else text


def interval(pairs: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % percentile bootstrap of the mean: seeds are drawn anew, and the cases of each."""
    random = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = [pairs[k] for k in random.integers(len(pairs), size=len(pairs))]
        means.append(np.mean([p[random.integers(len(p), size=len(p))].mean() for p in drawn]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
