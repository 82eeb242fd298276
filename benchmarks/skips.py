"""What skip connections are worth: one U-Net with none, added, concatenated, gated and nested ones, three seeds each.

    python benchmarks/skips.py DATA           runs what is missing (about three hours), writes results and docs/skips.md
    python benchmarks/skips.py DATA --sets em --minutes 1 --steps 300 --seeds 2 -o FOLDER    another study, elsewhere
    python benchmarks/skips.py --table        docs/skips.md again from the results

DATA holds the folders em and nuclei. Everything but the skips is alike: widths, block, patch, batch, arithmetic;
unetkit decides the rest. Each is trained for the same minutes, and for the same steps, on the training cases of the
arena, and scored on its held-out cases. A killed study goes on with the first run that is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from arena import entries
from arena.entries import Entry
from arena.process import Order, compete, say
from arena.sets import SETS
from arena.table import NAMES
from numpy.typing import NDArray

from unetkit.core.files import write_text
from unetkit.core.machine import cores
from unetkit.core.rng import numpy_generator
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import NetSpec

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "skips.md"
SKIPS = {
    "none": ("none", "net.skip=none", "encoder and decoder without connections"),
    "add": ("added", "net.skip=add", "the encoder's features are added to the decoder's"),
    "concat": ("concatenated", "net.skip=concat", "Ronneberger et al. 2015"),
    "attention": ("gated", "net.skip=attention", "Oktay et al. 2018, attention gates before concatenation"),
    "nested": ("nested", "net.topology=nested", "Zhou et al. 2018, U-Net++ without deep supervision"),
}
BASE = "concat"
ALIKE = ("net.channels=16,32,64,128,256", "net.stem_stride=1", "net.block=plain", "net.deep_supervision=false",
         "sampling.patch=256,256", "sampling.batch=2")  # fmt: skip
RESAMPLES = 2000

INTRO = """# Skip connections: none, added, concatenated, gated, nested

Made by `benchmarks/skips.py` from `benchmarks/results/skips`; not edited by hand.

The same U-Net (widths 16 … 256, two convolutions per level, patches of 256 × 256, two per step, float32) with five
kinds of connections between encoder and decoder, `unetkit train DATA --set net.skip=…`. Everything else is as unetkit
plans it. Held-out cases are those of the arena; none of them was seen in training or validation. Intervals are 95 %
percentile bootstrap over held-out cases and over seeds, both drawn anew each time; few seeds say little of how seeds
differ. *To concatenation* is the difference on the same cases; an interval that contains 0 shows no difference.
"""


def main() -> int:
    args = arguments()
    if args.table:
        say(f"{publish(args.out)}")
        return 0
    failed = []
    todo = [
        (name, skip, seed, budget)
        for budget in ("minutes", "steps")
        for name in args.sets
        for seed in range(args.seeds)
        for skip in SKIPS
    ]
    for number, (name, skip, seed, budget) in enumerate(todo, start=1):
        much = args.minutes if budget == "minutes" else args.steps
        label = f"{name}-{much:g}{budget}-{skip}-seed{seed}"
        file = args.out / "entries" / f"{label}.json"
        flags = "--precision fp32 " + " ".join(f"--set {field}" for field in (*ALIKE, SKIPS[skip][1]))
        settings = {"flags": flags, "steps": args.steps if budget == "steps" else 0, "skip": skip, "budget": budget}
        order = Order(name, "unetkit", args.minutes if budget == "minutes" else 0.0, seed, args.threads, settings)
        found = entries.read(file)
        if found is not None and found["digest"] == order.digest(args.data):
            say(f"{number}/{len(todo)} {label}: there already")
            continue
        say(f"{number}/{len(todo)} {label}: begins")
        try:
            entry = compete(label, order, args.data, args.work)
        except subprocess.CalledProcessError:
            failed.append(label)
            say(f"{label} failed; its log is {args.work / label / 'log.txt'}")
            continue
        entries.write(file, entry)
        means = {m: float(np.nanmean(cases([entry], m))) for m in SETS[name].measures}
        say(f"{label}: {', '.join(f'{NAMES[m]} {v:.4f}' for m, v in means.items())}; {entry['steps']} steps")
        publish(args.out)
    if failed:
        say(f"failed: {', '.join(failed)}; the same command tries them again")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with em/ and nuclei/")
    parser.add_argument("--sets", type=lambda text: tuple(text.split(",")), default=("em", "nuclei"))
    parser.add_argument("--minutes", type=float, default=3.0, help="of each run with equal minutes")
    parser.add_argument("--steps", type=int, default=800, help="of each run with equal steps")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("-o", "--out", type=Path, default=HERE / "results" / "skips", help="entries and the table")
    parser.add_argument("--work", type=Path, default=HERE.parent / "runs" / "skips", help="links, weights, logs")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    args = parser.parse_args()
    if args.data is None and not args.table:
        parser.error("give the folder of the data, or --table")
    return args


def publish(out: Path) -> Path:
    """Write skips.md beside the entries; for the results of the project also docs/skips.md. Gives the last path."""
    found = [entry for file in sorted((out / "entries").glob("*.json")) if (entry := entries.read(file))]
    text = page(found)
    write_text(out / "skips.md", text)
    if out.resolve() != HERE / "results" / "skips":
        return out / "skips.md"
    write_text(PAGE, text)
    return PAGE


def page(found: Sequence[Entry]) -> str:
    """The whole page: for each set and budget a table."""
    parts = [INTRO]
    for budget in ("minutes", "steps"):
        for name in SETS:
            group = [e for e in found if e["set"] == name and e["settings"]["budget"] == budget]
            if group:
                parts.append(section(name, budget, group))
    return "\n".join(parts)


def section(name: str, budget: str, group: Sequence[Entry]) -> str:
    kind, first = SETS[name], group[0]
    much = f"{first['minutes']:g} minutes" if budget == "minutes" else f"{first['settings']['steps']} steps"
    heads = ["skips", "which", "parameters", "steps", *(NAMES[m] for m in kind.measures), "to concatenation", "seeds"]
    lines = [f"## {name}, {much} each\n", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    base = [entry for entry in group if entry["settings"]["skip"] == BASE]
    for skip, (title, _, paper) in SKIPS.items():
        runs = [entry for entry in group if entry["settings"]["skip"] == skip]
        if not runs:
            continue
        spec = NetSpec.parse(runs[0]["remarks"]["plan"]["net"], "net")
        steps = sorted(run["steps"] for run in runs)
        cells = [title, paper, f"{geometry(spec).parameters / 1e6:.2f} M",
                 f"{steps[0]}" if steps[0] == steps[-1] else f"{steps[0]} to {steps[-1]}"]  # fmt: skip
        for measure in kind.measures:
            mean, low, high = interval(cases(runs, measure))
            cells.append(f"{mean:.4f} ({low:.3f} to {high:.3f})")
        cells += [difference(runs, base, kind.measures[0]) if skip != BASE else "", f"{len(runs)}"]
        lines.append(f"| {' | '.join(cells)} |")
    machine, torch = first["machine"], first["versions"]["torch"]
    lines.append(f"\n{len(first['scores'])} held-out cases: {kind.rule}. Differences are of {NAMES[kind.measures[0]]}. "
                 f"{machine['processor']}, {machine['cores']} cores, torch {torch}.\n")  # fmt: skip
    return "\n".join(lines)


def cases(runs: Sequence[Entry], measure: str) -> NDArray[np.float64]:
    """A measure of every run and held-out case (S, N), NaN where a case has none."""
    return np.array([[np.nan if (v := row[measure]) is None else v for row in run["scores"].values()] for run in runs])


def difference(runs: Sequence[Entry], base: Sequence[Entry], measure: str) -> str:
    """By how much they are better than the base, seed by seed and case by case; empty where no seed is in both."""
    of = {run["seed"]: run for run in base}
    both = [(run, of[run["seed"]]) for run in runs if run["seed"] in of]
    if not both:
        return ""
    mean, low, high = interval(cases([a for a, _ in both], measure) - cases([b for _, b in both], measure))
    return f"{mean:+.4f} ({low:+.3f} to {high:+.3f})"


def interval(values_SN: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean over seeds and cases, and its 95 % percentile bootstrap: seeds (S) and cases (N) are each drawn with
    replacement, the same cases for all seeds of a draw. NaN cases are left out."""
    random = numpy_generator(0, "bootstrap")
    seeds, count = values_SN.shape
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        chosen = values_SN[random.integers(seeds, size=seeds)][:, random.integers(count, size=count)]
        means[draw] = np.nanmean(chosen) if not np.isnan(chosen).all() else np.nan
    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(np.nanmean(values_SN)), float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
