"""The arena: all train for the same minutes on the same cores and cases, and predict the same held-out cases.

    python benchmarks/arena/run.py DATA                          the whole programme (PROGRAMME below), about five hours
    python benchmarks/arena/run.py DATA --minutes 6 --sets em,nuclei --only unetkit,monai
    python benchmarks/arena/run.py DATA --only unetkit --again   unetkit's entries once more (the earlier ones are kept)

DATA holds the folders em, nuclei, hippocampus, axons and ecg. Nothing else should run on the machine. A killed arena
goes on with the first entry that is missing; entries whose settings have changed since are run again. The tables are
written anew after every entry, and at any time by `python benchmarks/arena/table.py`.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # benchmarks/, where `arena` is
from arena import entries, table  # noqa: E402
from arena.contestants import MODULES, competing, contestant  # noqa: E402
from arena.process import Order, compete, say  # noqa: E402
from arena.sets import SETS  # noqa: E402
from unetkit.core.machine import cores  # noqa: E402

HERE = Path(__file__).resolve().parent
PROGRAMME = ((6.0, ("em", "nuclei", "hippocampus", "axons", "ecg")), (20.0, ("em", "hippocampus")))


def main() -> int:
    args = arguments()
    overrides = parsed(args.set)
    todo = [
        entries.Name(kind, name, minutes, args.seed)
        for minutes, kinds in ([(args.minutes, args.sets or tuple(SETS))] if args.minutes else PROGRAMME)
        for kind in kinds
        if kind in (args.sets or tuple(SETS))
        for name in competing(kind)
        if name in (args.only or MODULES)
    ]
    if args.again:
        for name in todo:
            entries.set_aside(name.file(args.out))
    failed = []
    for number, name in enumerate(todo, start=1):
        settings = contestant(name.contestant).settings(name.set) | overrides.get(name.contestant, {})
        order = Order(name.set, name.contestant, name.minutes, name.seed, args.threads, settings)
        found = entries.read(name.file(args.out))
        if found is not None and found["digest"] == order.digest(args.data):
            say(f"{number}/{len(todo)} {name}: there already")
            continue
        if found is not None:
            say(f"{number}/{len(todo)} {name}: its settings have changed, so it is run again")
            entries.set_aside(name.file(args.out))
        say(f"{number}/{len(todo)} {name}: begins")
        try:
            entry = compete(str(name), order, args.data, args.work)
        except subprocess.CalledProcessError as error:
            failed.append(str(name))
            say(f"{name} failed (exit status {error.returncode}); its log is {args.work / str(name) / 'log.txt'}")
            continue
        entries.write(name.file(args.out), entry)
        say(f"{name}: {table.one_line(entry)}")
        table.write(args.out)
    table.write(args.out)
    if failed:
        say(f"failed: {', '.join(failed)}; the same command tries them again")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with em/, nuclei/, hippocampus/, axons/, ecg/")
    parser.add_argument("--minutes", type=float, help="one budget for all sets, in place of the programme")
    parser.add_argument("--sets", type=names(SETS), help="of em,nuclei,hippocampus,axons,ecg; else all")
    parser.add_argument("--only", type=names(MODULES), help=f"of {','.join(MODULES)}; else all")
    parser.add_argument("-o", "--out", type=Path, default=HERE.parent / "results" / "arena", help="entries and tables")
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / "runs" / "arena", help="links, weights, logs")
    parser.add_argument("--threads", type=int, default=cores(), help="cores for each contestant; else all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--again", action="store_true", help="run once more what is finished, and keep that entry aside"
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME.FIELD=VALUE", help="another setting")
    return parser.parse_args()


def names(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: must be of {', '.join(known)}")
        return found

    return parse


def parsed(items: list[str]) -> dict[str, dict[str, Any]]:
    """`monai.batch=4` as {"monai": {"batch": 4}}. Raises SystemExit: not such a text, no such setting."""
    found: dict[str, dict[str, Any]] = {}
    for item in items:
        field, equals, text = item.partition("=")
        name, _, setting = field.partition(".")
        known = contestant(name).settings("em") if name in MODULES else {}
        if not equals or setting not in known:
            sys.exit(f"--set {item}: must be NAME.FIELD=VALUE, such as monai.batch=4; fields here: {', '.join(known)}")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text
        found.setdefault(name, {})[setting] = value
    return found


if __name__ == "__main__":
    sys.exit(main())
