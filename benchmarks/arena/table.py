"""The tables of the arena, from its entries: table.md, table.json and contestants.md beside them.

python benchmarks/arena/table.py [FOLDER]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # benchmarks/, where `arena` is
from arena import entries
from arena.contestants import MODULES, contestant
from arena.entries import Entry
from arena.sets import SETS
from unetkit.core.files import write_text
from unetkit.metrics.membrane import THRESHOLDS
from unetkit.metrics.summary import Summary, summarise

NAMES = {"v_rand": "V_rand", "v_info": "V_info", "dice": "Dice", "ap50": "AP at IoU 0.5",
         "ap50_90": "AP, IoU 0.5 … 0.9", "f1": "F1"}  # fmt: skip
OWN = "unetkit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[1] / "results" / "arena"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    folder = parser.parse_args().folder
    print(write(folder))


def write(folder: Path) -> str:
    """Write the tables; gives table.md."""
    found = load(folder)
    text = markdown(found)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "table.md", text)
    write_text(folder / "table.json", json.dumps(rows(found), indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "contestants.md", contestants())
    return text


def load(folder: Path) -> list[Entry]:
    """All entries, by set, minutes and contestant in the order of the arena."""
    found = [entry for file in sorted((folder / "entries").glob("*.json")) if (entry := entries.read(file))]
    order = list(SETS), list(MODULES)
    return sorted(
        found, key=lambda e: (e["minutes"], order[0].index(e["set"]), order[1].index(e["contestant"]), e["seed"])
    )


def values(entry: Entry, measure: str) -> list[float]:
    """A measure of every held-out case, NaN where it has none."""
    return [math.nan if row[measure] is None else float(row[measure]) for row in entry["scores"].values()]


def summary(entry: Entry, measure: str) -> Summary:
    """The mean over the held-out cases, and its interval over their groups."""
    return summarise(values(entry, measure), [entry["groups"][case] for case in entry["scores"]])


def ahead(entry: Entry, other: Entry, measure: str) -> Summary:
    """By how much the first is better, case by case, with the interval of the difference. Raises ValueError: the two
    were scored on different cases."""
    if list(entry["scores"]) != list(other["scores"]):
        raise ValueError(
            f"{entry['set']}: {entry['contestant']} and {other['contestant']} had different held-out cases"
        )
    pairs = zip(values(entry, measure), values(other, measure), strict=True)
    return summarise([a - b for a, b in pairs], [entry["groups"][case] for case in entry["scores"]])


def common(entry: Entry, measure: str) -> tuple[float, float]:
    """Of em: the mean at the one threshold that is best for all slices together, and that threshold."""
    means = {t: summarise(values(entry, f"{measure}@{t:g}")).mean for t in THRESHOLDS}
    best = max(means, key=lambda t: means[t])
    return means[best], best


def rows(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row of plain values per entry."""
    table = []
    for entry in found:
        row = {key: entry[key] for key in ("set", "minutes", "contestant", "seed", "steps", "digest")}
        row |= {"seconds": round(entry["train_seconds"], 1), "predict_seconds": round(entry["predict_seconds"], 1),
                "cases": len(entry["scores"]), "load": entry["load"]["mean"],
                "cores_used": round(entry["processor_seconds"] / spent(entry), 2)}  # fmt: skip
        for measure in SETS[entry["set"]].measures:
            got = summary(entry, measure)
            row[measure] = [None if math.isnan(v) else round(v, 5) for v in (got.mean, got.low, got.high)]
            if f"{measure}@0.5" in next(iter(entry["scores"].values())):
                row[f"{measure}, common threshold"] = [round(v, 5) for v in common(entry, measure)]
        table.append(row)
    return table


def spent(entry: Entry) -> float:
    return float(entry["train_seconds"] + entry["predict_seconds"])


def markdown(found: Sequence[Entry]) -> str:
    parts = [
        "# The arena\n",
        "Made by `benchmarks/arena/table.py` from the entries beside it; see benchmarks/README.md.\n",
    ]
    for minutes, name in dict.fromkeys((entry["minutes"], entry["set"]) for entry in found):
        group = [entry for entry in found if (entry["minutes"], entry["set"]) == (minutes, name)]
        parts.append(section(name, minutes, group))
    return "\n".join(parts)


def section(name: str, minutes: float, group: Sequence[Entry]) -> str:
    """The table of one set and budget, and unetkit's lead over each of the others."""
    kind = SETS[name]
    shared = [m for m in kind.measures if f"{m}@0.5" in next(iter(group[0]["scores"].values()))]
    heads = ["", *(NAMES[m] for m in kind.measures), *(f"{NAMES[m]}, one threshold" for m in shared), "steps",
             "minutes", "prediction, s", "cores used"]  # fmt: skip
    cases, units = len(group[0]["scores"]), len(set(group[0]["groups"].values()))
    of = f" of {units} groups" if units < cases else ""
    lines = [f"## {name}, {minutes:g} minutes\n", f"{cases} held-out cases{of}: {kind.rule}.\n",
             f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]  # fmt: skip
    best = {m: max(summary(entry, m).mean for entry in group) for m in kind.measures}
    for entry in group:
        cells = [title(entry)]
        for measure in kind.measures:
            got = summary(entry, measure)
            mean = f"**{got.mean:.4f}**" if got.mean == best[measure] else f"{got.mean:.4f}"
            cells.append(mean if math.isnan(got.low) else f"{mean} ({got.low:.3f} to {got.high:.3f})")
        cells += [f"{common(entry, m)[0]:.4f} (at {common(entry, m)[1]:g})" for m in shared]
        cells += [f"{entry['steps']}", f"{entry['train_seconds'] / 60:.2f}", f"{entry['predict_seconds']:.0f}",
                  f"{entry['processor_seconds'] / spent(entry):.2f} of {entry['threads']}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    own = next((entry for entry in group if entry["contestant"] == OWN and not entry["seed"]), None)
    others = [entry for entry in group if entry["contestant"] != OWN and not entry["seed"]]
    if own is not None and others:
        lead = [f"{title(other)} {signed(ahead(own, other, kind.measures[0]))}" for other in others]
        lines.append(f"\n{OWN}'s lead in {NAMES[kind.measures[0]]}, case by case: {'; '.join(lead)}.")
    machine, versions = group[0]["machine"], group[0]["versions"]
    loads = ", ".join(f"{entry['load']['mean']:.1f}" for entry in group)
    lines.append(
        f"\n{machine['processor']}, {machine['cores']} cores, torch {versions['torch']}; load average {loads}.\n"
    )
    return "\n".join(lines)


def signed(got: Summary) -> str:
    return f"{got.mean:+.4f}" if math.isnan(got.low) else f"{got.mean:+.4f} ({got.low:+.3f} to {got.high:+.3f})"


def title(entry: Entry) -> str:
    text = contestant(entry["contestant"]).TITLE
    return f"{text}, seed {entry['seed']}" if entry["seed"] else text


def one_line(entry: Entry) -> str:
    """What is printed of a finished entry."""
    scores = ", ".join(f"{NAMES[m]} {summary(entry, m).mean:.4f}" for m in SETS[entry["set"]].measures)
    minutes, seconds = entry["train_seconds"] / 60, entry["predict_seconds"]
    return f"{scores}; {entry['steps']} steps in {minutes:.2f} min, then {seconds:.0f} s of prediction"


def contestants() -> str:
    """The settings of all contestants as a table, from their own modules."""
    modules = {name: contestant(name) for name in MODULES}
    kinds = list(next(iter(modules.values())).WORDS)
    lines = ["# The contestants of the arena\n", "Made by `benchmarks/arena/table.py`.\n",
             f"| | {' | '.join(module.TITLE for module in modules.values())} |", "|" + "---|" * (len(modules) + 1),
             f"| sets | {' | '.join(', '.join(module.SETS) for module in modules.values())} |"]  # fmt: skip
    for kind in kinds:
        lines.append(f"| {kind} | {' | '.join(words(module, kind) for module in modules.values())} |")
    return "\n".join(lines) + "\n"


def words(module: Any, kind: str) -> str:
    """One cell: as the module says it, or, of patch and batch, its numbers."""
    if kind in module.WORDS:
        return str(module.WORDS[kind])
    numbers = {name: module.settings(name) for name in module.SETS}
    if "patch" not in next(iter(numbers.values())):
        return f"of its planner, for {next(iter(numbers.values()))['gpu_memory_target']:g} GB: in each entry"
    texts = {" × ".join(map(str, one["patch"])) + f", {one['batch']}": name for name, one in numbers.items()}
    return "; ".join(text if len(texts) == 1 else f"{text} ({name})" for text, name in reversed(texts.items()))


if __name__ == "__main__":
    main()
