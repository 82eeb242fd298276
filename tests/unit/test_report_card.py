"""The model card: what it says, and that names of the user's cannot become Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unetkit.core.errors import RunError
from unetkit.report import write_model_card
from unetkit.report.card import escape


def test_card_says_what_when_how_well_and_what_for(made_run: Callable[..., Path]) -> None:
    run = made_run()
    path = write_model_card(run)
    assert path == run / "README.md"
    card = path.read_text()
    assert card.startswith("---\nlibrary_name: unetkit\n")
    for words in (
        "# Finding cell and debris",
        "| licence | not stated |",
        "| 1 | cell | 100 | yes |",
        "| mean | 0.800 | 0.750 to 0.850 | 6 |",
        "## Intended use",
        "## Limits",
        "The scores rest on 6 images",
        "3 stray values",
        "unetkit predict made-up IMAGES -o OUT",
        "| torch | 2.13.0+cpu |",
    ):
        assert words in card
    assert str(run.parent) not in card  # a card travels: it names no place on this disk


def test_licence_is_given_as_it_was(made_run: Callable[..., Path]) -> None:
    run = made_run()
    plan = json.loads((run / "plan.json").read_text())
    plan["data"] |= {"licence": "CC0-1.0", "synthetic": True}
    (run / "plan.json").write_text(json.dumps(plan))
    card = write_model_card(run).read_text()
    assert "| licence | CC0-1.0 |" in card
    assert "**Synthetic data**" in card


def test_plan_alone_is_enough(made_run: Callable[..., Path]) -> None:
    run = made_run()
    for path in run.rglob("*"):
        if path.is_file() and path.name != "plan.json":
            path.unlink()
    card = write_model_card(run).read_text()
    assert "Not scored yet." in card
    assert "Not recorded." in card


def test_hostile_names_stay_text(made_run: Callable[..., Path]) -> None:
    card = write_model_card(made_run(classes=("background", "a | b\n# c <b>d</b> `e` [f](g) **h**"))).read_text()
    assert "\n# c" not in card
    assert "<b>" not in card
    assert "[f](g)" not in card.replace("\\[f\\](g)", "")
    table = [line for line in card.splitlines() if line.startswith("| 1 |")]
    assert len(table) == 1
    assert table[0].replace("\\|", "").count("|") == 5


@pytest.mark.parametrize(
    ("raw", "safe"), [("a_b", "a\\_b"), ("x < y & z", "x &lt; y &amp; z"), ("two\n\nlines", "two lines")]
)
def test_escape(raw: str, safe: str) -> None:
    assert escape(raw) == safe


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"plan.json: the plan is missing"):
        write_model_card(tmp_path)
