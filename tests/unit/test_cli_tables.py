"""The doctor's findings and the scores, as a terminal of 80 columns and as a pipe get them."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

from rich.console import Console

from unetkit.cli.findings import diagnosis_json, show_diagnosis
from unetkit.cli.scores import show_scores
from unetkit.data.doctor.examine import Diagnosis
from unetkit.data.doctor.finding import Finding
from unetkit.data.groups import Groups
from unetkit.metrics.scores import METRICS, CaseScores, Scores


def diagnosis(*findings: Finding) -> Diagnosis:
    return Diagnosis(findings, Groups({}, "no groups", False), (), None)


def finding(number: int, severity: str = "warning", code: str = "stray") -> Finding:
    return Finding.parse(
        {
            "severity": severity,
            "code": code,
            "file": f"cells/masks/a{number}.png",
            "message": f"{number} pixels [are] stray",
            "fix": "save as PNG",
        },
        "test",
    )


def shown(what: Diagnosis | Scores, terminal: bool, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=terminal, highlight=False, markup=False, emoji=False, no_color=True
    )
    if isinstance(what, Diagnosis):
        show_diagnosis(console, Path("cells"), what)
    else:
        show_scores(console, what)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def test_findings_in_a_pipe_are_lines_worst_first() -> None:
    text = shown(diagnosis(finding(1), finding(2, "error", "cut")), terminal=False)
    assert text.splitlines() == [
        "error: cells/masks/a2.png: 2 pixels [are] stray; save as PNG",
        "warning: cells/masks/a1.png: 1 pixels [are] stray; save as PNG",
        "1 error, 1 warning; these data cannot be trained on until the errors are mended",
    ]


def test_a_clean_set_says_what_comes_next() -> None:
    assert shown(diagnosis(), terminal=True) == "nothing to remark; ready for `unetkit train cells -o run`\n"


def test_many_findings_of_a_kind_are_shown_together_on_a_terminal() -> None:
    text = shown(diagnosis(*map(finding, range(1, 8)), finding(9, "error", "cut")), terminal=True)
    assert text.index("error") < text.index("warning")
    assert re.search(r"masks/a1.png +7 files, for example: 1 pixels \[are\] stray", text)
    assert "… and 4 more" in text
    assert "→ save as PNG" in text
    assert "a5.png" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_few_findings_of_a_kind_are_shown_one_by_one() -> None:
    text = shown(diagnosis(*map(finding, range(1, 6))), terminal=True)
    assert all(f"masks/a{number}.png" in text for number in range(1, 6))


def test_a_finding_about_the_whole_set() -> None:
    whole = Finding(severity="note", code="names", file="", message="groups are named")
    assert "the whole set" in shown(diagnosis(whole), terminal=True)
    assert shown(diagnosis(whole), terminal=False).startswith("note: cells: groups are named\n")


def test_findings_as_json() -> None:
    value = diagnosis_json(Path("cells"), diagnosis(finding(1), finding(2, "error")))
    assert (value["data"], value["ok"], value["counts"]) == ("cells", False, {"error": 1, "warning": 1, "note": 0})
    assert value["findings"][0]["file"] == "cells/masks/a1.png"
    assert value["legend"] is None


def scores(cases: int, image: bool = False) -> Scores:
    rows = tuple(
        CaseScores(
            f"case{k}",
            dict.fromkeys(METRICS, (0.95, 0.5 + 0.02 * k, math.nan)),
            (90, 10, 0),
            image={"v_rand": 0.9, "v_rand_threshold": 0.3} if image else {},
        )
        for k in range(cases)
    )
    return Scores(("background", "cell", "wall of a long name"), (1, 2), rows)


def test_scores_fit_80_columns() -> None:
    text = shown(scores(12, image=True), terminal=True)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"background \* +0.950", text)
    assert re.search(r"^wall of .*–", text, re.M)
    assert "threshold" not in text
    assert "V_rand: 0.900  0.90–0.90" in text
    assert "* not in the mean. Below: 95 % interval, bootstrap over images; n: images." in text


def test_the_images_with_the_lowest_dice_are_listed() -> None:
    text = shown(scores(12), terminal=False)
    listed = re.findall(r"^case\d+", text, re.M)
    assert listed == ["case0", "case1", "case2", "case3", "case4"]
    assert "The 5 of 12 images with the lowest Dice:" in text
    assert re.findall(r"^case\d+", shown(scores(3), terminal=False), re.M) == ["case0", "case1", "case2"]
    assert "case0" not in shown(scores(1), terminal=False)
