"""`report.html`: the facts of a run as one page that needs nothing else — no network, no fonts, no other files."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from unetkit.core.files import write_text
from unetkit.core.machine import format_duration
from unetkit.report import views
from unetkit.report.charts import short
from unetkit.report.confidence import confidence_view
from unetkit.report.dataset import data_view
from unetkit.report.facts import read_facts
from unetkit.report.pictures import ERROR_COLOURS, read_pictures
from unetkit.report.scores import METRICS, read_scores
from unetkit.report.suspects import suspects_view

MOST_CASES = 300  # rows in the table of cases; the rest is in scores.csv
MOST_CLASS_COLUMNS = 6


def write_report(run: Path) -> Path:
    """Write `run/report.html` from the files of the run folder; give its path.

    Raises RunError (plan.json is missing or is no plan) and MachineError (the folder cannot be written).
    """
    run = Path(run)
    path = run / "report.html"
    write_text(path, render(run))
    return path


def render(run: Path) -> str:
    """The whole page as text. Every text of the user's is escaped by the template engine."""
    facts = read_facts(run)
    scores = read_scores(facts)
    pictures, problems = read_pictures(facts)
    style, script = _part("style.css"), _part("script.js")
    page = _environment().get_template("page.html")
    cases = sorted(scores.cases, key=lambda c: (c.metrics.get("dice") is None, c.metrics.get("dice") or 0.0))
    return page.render(
        facts=facts,
        scores=scores,
        cases=cases[:MOST_CASES],
        case_dices=[d for c in cases if (d := c.metrics.get("dice")) is not None],
        has_groups=any(case.group for case in cases),
        class_columns=scores.classes if 2 <= len(scores.classes) <= MOST_CLASS_COLUMNS else (),
        cases_left=max(0, len(cases) - MOST_CASES),
        metric_names=METRICS,
        pictures=pictures,
        error_colours=ERROR_COLOURS,
        problems=problems,
        headline=views.headline(facts, scores),
        charts=views.curves(facts),
        confidence=confidence_view(facts),
        warnings=views.warnings_of(facts),
        data=data_view(facts),
        plan=views.plan_view(facts),
        timings=views.timings(facts),
        versions=views.versions(facts),
        next_commands=views.next_commands(facts),
        findings=views.findings(facts),
        suspects=suspects_view(facts),
        commands=views.commands(facts),
        style=Markup(style),
        script=Markup(script),
        # the page may run this one script and load nothing: a name that smuggles in markup could still do nothing
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_part),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "fine": _fine,
        "percent": _percent,
        "code": _code,
        "duration": format_duration,
        "short": short,
    }
    return environment


def _part(name: str) -> str:
    return (files("unetkit.report") / name).read_text(encoding="utf-8")


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _fine(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _code(words: str) -> Markup:
    """Escaped text in which `words between backticks` are set as code."""
    parts = str(words).split("`")
    if len(parts) % 2 == 0:  # a backtick without its partner is an ordinary character
        return escape(words)
    return Markup("").join(Markup("<code>{}</code>").format(p) if n % 2 else escape(p) for n, p in enumerate(parts))


def _percent(value: Any) -> str:
    share = 100 * float(value)
    if 0 < share < 0.1:
        return "< 0.1 %"
    return f"{share:.1f} %" if share < 99.95 else "100 %"
