"""From facts to what each part of the page says: sentences, rows and curves, still free of any markup."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unetkit.core.machine import format_duration
from unetkit.report.charts import Chart, Curve, draw, rising, smooth
from unetkit.report.facts import Facts, get, number, text
from unetkit.report.scores import ScoreView
from unetkit.report.words import amount, listed, plural

SERIES = 8  # curve styles in style.css


@dataclass(frozen=True)
class Headline:
    """The first screen: a title, one sentence, and short facts (name, value, remark)."""

    title: str
    lead: str
    tiles: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Decision:
    """A field of the plan: dotted name, value as text, and the reason (empty where none is recorded)."""

    name: str
    value: str
    why: str


def headline(facts: Facts, scores: ScoreView) -> Headline:
    """Title, lead and tiles, from what is recorded; a run that was stopped early says so."""
    wanted = [c.name for c in facts.foreground]
    what = listed(wanted) if len(wanted) <= 4 else f"{len(wanted)} classes"
    seconds, steps = number(facts.metrics.get("seconds")), number(facts.metrics.get("steps"))
    cores = number(get(facts.plan, "machine.threads")) or number(facts.environment.get("cores"))
    device = text(get(facts.plan, "machine.device"), "cpu")
    where = f"on {plural(cores, 'processor core')}" if cores and device == "cpu" else f"on {device}"
    trained = sum(row["split"] == "train" for row in facts.split)
    images = float(trained) if trained else number(get(facts.plan, "data.cases"))
    nets = facts.trained
    who = "a network" if nets == 1 else f"{nets} networks"
    learnt = f"In {format_duration(seconds)} {where} {who} learnt" if seconds else f"This run trains {who}"
    of = "" if images is None else f" from {plural(images, f'annotated {facts.noun}')}"
    precision = text(get(facts.plan, "machine.precision"), "")
    lead = f"{learnt} to find {what}{of}."
    held = len(scores.cases)
    if scores.mean.value is not None:
        on = f"On {plural(held, facts.noun)} that it was not trained on" if held else f"On the validation {facts.noun}s"
        if held and facts.joined:
            on = f"On {plural(held, facts.noun)} that it had not been trained on by then"
        if held and facts.folds:
            on = f"On {plural(held, facts.noun)}, each left to a network that never saw it,"
        lead += f" {on} its mean Dice is {scores.mean.value:.3f}{_interval(scores)}."
    else:
        lead += " It has not been scored yet."
    tiles = [
        ("Training time", format_duration(seconds), _budget(facts)) if seconds is not None else None,
        ("Steps", amount(steps), _batch(facts)) if steps is not None else None,
        _parameters(facts),
        ("Arithmetic", precision, where) if precision else None,
    ]
    return Headline(f"Finding {what}", lead, tuple(tile for tile in tiles if tile))


def _interval(scores: ScoreView) -> str:
    low, high = scores.mean.low, scores.mean.high
    return "" if low is None or high is None else f" (95 % interval {low:.3f} to {high:.3f})"


def _budget(facts: Facts) -> str:
    minutes, steps = number(get(facts.plan, "budget.minutes")), number(get(facts.plan, "budget.steps"))
    if minutes:
        return f"of {minutes:g} min allowed"
    each = " each" if facts.trained > 1 else ""
    return f"for {steps:.0f} steps{each}" if steps else "until validation settled"


def _batch(facts: Facts) -> str:
    patch, batch = get(facts.plan, "sampling.patch"), number(get(facts.plan, "sampling.batch"))
    if not isinstance(patch, list) or batch is None:
        return ""
    size = " × ".join(str(p) for p in patch)
    return f"each {batch:.0f} × {f'({size})' if len(patch) > 1 else size} {facts.unit}"


def _parameters(facts: Facts) -> tuple[str, str, str] | None:
    count, channels = number(facts.metrics.get("parameters")), get(facts.plan, "net.channels")
    if count is None:
        return None
    channels = channels if isinstance(channels, list) else []
    width = f"{len(channels)} levels, {channels[0]} to {channels[-1]} channels" if channels else ""
    return "Parameters", amount(count), width


def curves(facts: Facts) -> list[Chart]:
    """Loss, validation Dice and learning rate over steps, each where its events were recorded; one for each fold."""
    if facts.folds:
        return _curves_of_folds(facts)
    loss = _points(facts.events_of("progress"), "done", "loss")
    validated = facts.events_of("validated")
    dice = _points(validated, "step", "dice")
    names = [c.name for c in facts.foreground]
    shown = names[: SERIES - 1] if len(names) > 1 else []
    many = [Curve(name, _points(validated, "step", "per_class", name), f"s{k}") for k, name in enumerate(shown, 1)]
    best = max(dice, key=lambda p: p[1], default=None)
    train = [Curve("every step", loss, "faint"), Curve("moving average", smooth(loss), "s0")]
    if len(loss) < 2:  # only validations were recorded
        train = [Curve("mean since the last validation", _points(validated, "step", "loss"), "s0")]
    rate = _points(validated, "step", "lr")
    charts = [
        draw("Training loss", "step", "loss", train),
        draw("Validation Dice", "step", "Dice", [Curve("mean", dice, "s0", marks=True), *many], (0.0, 1.0), best),
        draw("Learning rate", "step", "rate", [Curve("learning rate", rate, "s0")]),
    ]
    return [chart for chart in charts if chart is not None]


def _curves_of_folds(facts: Facts) -> list[Chart]:
    validated = [[e for e in events if e.get("kind") == "validated"] for events in facts.folds[:SERIES]]

    def curves(y: str, marks: bool = False) -> list[Curve]:
        return [Curve(f"fold {k + 1}", _points(v, "step", y), f"s{k}", marks) for k, v in enumerate(validated)]

    charts = [
        draw("Training loss", "step", "loss", curves("loss")),
        draw("Validation Dice", "step", "Dice", curves("dice", marks=True), (0.0, 1.0)),
        draw("Learning rate", "step", "rate", curves("lr")[:1]),
    ]
    return [chart for chart in charts if chart is not None]


def _points(events: list[Mapping[str, Any]], x: str, y: str, key: str | None = None) -> tuple[tuple[float, float], ...]:
    pairs = []
    for event in events:
        value = event.get(y)
        if key is not None:
            value = value.get(key) if isinstance(value, Mapping) else None
        at, height = number(event.get(x)), number(value)
        if at is not None and height is not None and event.get("task", "train") == "train":
            pairs.append((at, height))
    return rising(pairs)


def warnings_of(facts: Facts) -> list[str]:
    """What was warned of during the run, each once, in order."""
    return list(dict.fromkeys(str(event["message"]) for event in facts.events_of("warned") if event.get("message")))


def plan_view(facts: Facts) -> tuple[list[Decision], list[Decision]]:
    """(decisions with a reason, in the order of the plan; all other settings)."""
    reasons = get(facts.plan, "reasons", {})
    reasons = reasons if isinstance(reasons, Mapping) else {}
    hidden = ("reasons.", "request.", "data.legend.", "data.classes.")
    fields = {k: v for k, v in _flat(facts.plan).items() if not k.startswith(hidden)}
    decided = [Decision(k, _decision(facts, k), str(why)) for k, why in reasons.items()]
    order = {section: n for n, section in enumerate(facts.plan)}
    decided.sort(key=lambda d: order.get(d.name.split(".")[0], len(order)))
    others = [Decision(k, _value(v), "") for k, v in fields.items() if k not in reasons]
    return decided, others


def _decision(facts: Facts, name: str) -> str:
    if name in ("data.legend", "data.classes"):
        return ", ".join(c.name if c.foreground else f"{c.name} (background)" for c in facts.classes)
    return _value(get(facts.plan, name))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(_value(v) for v in value) or "none"
    if isinstance(value, Mapping):  # a reason may be given for a whole section: its values follow in the plan
        return ", ".join(f"{k} {_value(v)}" for k, v in value.items() if v is None or isinstance(v, str | int | float))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def timings(facts: Facts) -> list[tuple[str, float]]:
    """(name, seconds), longest first."""
    values = facts.environment.get("timings")
    values = values if isinstance(values, Mapping) else {}
    pairs = [(str(k), s) for k, v in values.items() if (s := number(v)) is not None]
    return sorted(pairs, key=lambda pair: -pair[1])


def versions(facts: Facts) -> list[tuple[str, str]]:
    """(name, value) of everything in environment.json that is one value."""
    return [(k, _value(v)) for k, v in facts.environment.items() if k not in ("commands", "timings")]


def findings(facts: Facts) -> list[dict[str, str]] | None:
    """The doctor's findings, gravest first, every field a text; None where none were recorded."""
    if facts.findings is None:
        return None
    rank = {"error": 0, "warning": 1}
    rows = [
        {
            "severity": text(f.get("severity"), "note"),
            "file": text(f.get("file"), "–"),
            "message": text(f.get("message"), "–"),
            "fix": text(f.get("fix"), "–"),
        }
        for f in facts.findings
    ]
    return sorted(rows, key=lambda row: rank.get(row["severity"], 2))


def commands(facts: Facts) -> list[str]:
    """The command lines that made the run, first to last."""
    ran = facts.environment.get("commands")
    return [line for line in ran if isinstance(line, str)] if isinstance(ran, list) else []


def next_commands(facts: Facts, folder: str = "") -> list[tuple[str, str]]:
    """(what for, command line) to go on: with the run's folder (or `folder`) and data, quoted for a shell."""
    run, data = shlex.quote(folder or str(facts.run)), shlex.quote(text(get(facts.plan, "data.path"), "DATA"))
    ran = commands(facts)
    train = next((c for c in reversed(ran) if " train " in f" {c} "), f"unetkit train {data} -o {run}")
    return [
        (
            f"Segment new {facts.noun}s: a file, a folder or a glob",
            f"unetkit predict {run} {facts.noun.upper()}S -o OUT",
        ),
        ("Score it on images that it has never seen (put your folder)", f"unetkit evaluate {run} NEW_DATA"),
        ("Go on with this run if it was interrupted, or repeat it elsewhere", train),
        ("Look at the data again", f"unetkit check {data}"),
    ]
