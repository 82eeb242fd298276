"""The flags of runs in folds, and how likely label errors are printed."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from unetkit.cli import main
from unetkit.cli.flags import Choices, make_request
from unetkit.cli.suspects import show_suspects, suspects_json
from unetkit.core.region import Region
from unetkit.evaluate.suspects import Suspect, Suspects


def some(count: int) -> Suspects:
    areas = tuple(
        Suspect("a/b", "missing", "ground", "cell", Region((3, 10 + k), (9, 20 + k)), 40 - k, 0.97, 30.0 - k)
        for k in range(count)
    )
    return Suspects(areas, (("a/b", 300.0),), 7)


def printed(found: Suspects, terminal: bool) -> str:
    console = Console(file=StringIO(), force_terminal=terminal, width=100, color_system=None)
    show_suspects(console, Path("run"), found)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_folds_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_request(Choices(folds=5)).folds == 5
    assert make_request(Choices()).folds is None
    assert main(["train", "nowhere", "--folds", "0"]) == 2
    assert "--folds 0: must be 2 or more, for example --folds 5; 1 is one split" in capsys.readouterr().err
    assert main(["train", "nowhere", "--folds", "2.5"]) == 2
    assert "--folds 2.5: must be a whole number" in capsys.readouterr().err


def test_areas_are_lines_for_programs_and_a_table_for_people() -> None:
    lines = printed(some(22), terminal=False).splitlines()
    assert lines[1:3] == [
        "likely label errors, by what run says of cases that it did not learn from: 22 areas in 1 of 7 cases",
        "1. a/b: 'cell' seems to be missing, at x 10–19, y 3–8 (40 pixels, sure by 97%)",
    ]
    assert lines[-1] == "2 more are in run/suspects.csv; pictures are in run/report.html"
    assert lines[-2] == "doubted most as a whole (a mask that is shifted, say): a/b"
    assert len(lines) == 1 + 1 + 20 + 2
    table = printed(some(2), terminal=True)
    assert "'cell' seems to be missing" in table
    assert all(len(line) <= 100 for line in table.splitlines())
    assert printed(some(0), terminal=False) == (
        "likely label errors, by what run says of cases that it did not learn from: none in 7 cases\n"
    )


def test_as_json_places_are_lists() -> None:
    values = suspects_json(some(1))
    assert values["examined"] == 7
    assert values["areas"][0]["start"] == [3, 10]
    assert values["cases"] == [{"case": "a/b", "score": 300.0}]
