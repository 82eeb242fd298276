"""The model card, `README.md` of the run folder: what the model is for, what it learnt from, where its limits are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unetkit.core.files import write_text
from unetkit.report import views
from unetkit.report.confidence import confidence_view
from unetkit.report.dataset import data_view
from unetkit.report.facts import Facts, get, read_facts, text
from unetkit.report.scores import Measure, ScoreView, read_scores
from unetkit.report.words import listed, plural


def write_model_card(run: Path) -> Path:
    """Write `run/README.md` from the files of the run folder; give its path.

    Raises RunError (plan.json is missing or is no plan) and MachineError (the folder cannot be written).
    """
    path = Path(run) / "README.md"
    write_text(path, render_card(path.parent))
    return path


def render_card(run: Path) -> str:
    """The card as Markdown. Texts of the user's are escaped: a class name cannot become markup or a table cell."""
    facts = read_facts(run)
    scores = read_scores(facts)
    headline = views.headline(facts, scores)
    commands = [
        f"{escape(what)}:\n\n```sh\n{line.replace('```', '')}\n```"
        for what, line in views.next_commands(facts, run.name)[:2]
    ]
    parts = [
        f"# {escape(headline.title)}",
        escape(headline.lead),
        "A picture of every claim is in `report.html`; the plan with its reasons is in `plan.json`.",
        "## Classes\n\n" + _classes(facts),
        "## Data\n\n" + _data(facts),
        "## Scores\n\n" + _scores(facts, scores),
        *(["## Probabilities\n\n" + sure] if (sure := _confidence(facts)) else []),
        "## Intended use\n\n" + _use(facts),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in _limits(facts, scores)),
        "## How to use\n\n" + "\n\n".join(commands),
        "## Made with\n\n" + (_table(("what", "version"), views.versions(facts)) or "Not recorded."),
    ]
    return "---\nlibrary_name: unetkit\npipeline_tag: image-segmentation\ntags: [segmentation, u-net]\n---\n\n" + (
        "\n\n".join(parts) + "\n"
    )


def escape(words: str) -> str:
    """Text as it stands in Markdown: on one line, every character that Markdown or HTML would read made harmless."""
    line = " ".join(words.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", line)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *[tuple(escape(cell) for cell in row) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _classes(facts: Facts) -> str:
    rows = [(str(c.index), c.name, c.value, "yes" if c.foreground else "no (background)") for c in facts.classes]
    return _table(("index", "class", "value in masks", "counted in scores"), rows)


def _data(facts: Facts) -> str:
    view = data_view(facts)
    # the name of the folder only: a card travels, and where the data lay on somebody's disk is nobody's business
    rows: list[tuple[str, ...]] = [("name", facts.name), ("licence", _licence(facts))]
    rows += [(name, f"{value} ({remark})" if remark else value) for name, value, remark in view.tiles]
    rows += [(f"{facts.noun}s for {name}", str(count)) for name, count, _ in view.splits]
    rows += [(f"share of {c.name}", f"{100 * share:.1f} %") for c, share in view.fractions]
    told = "\n\n".join(escape(line) for line in (view.legend, view.leak) if line)
    return _table(("what", "value"), rows) + (f"\n\n{told}" if told else "")


def _licence(facts: Facts) -> str:
    return text(get(facts.plan, "data.licence"), text(get(facts.plan, "data.license"), "not stated"))


def _scores(facts: Facts, scores: ScoreView) -> str:
    if scores.mean.value is None:
        return "Not scored yet."
    rows: list[tuple[str, ...]] = [("mean", *_measure(scores.mean))]
    rows += [(c.name, *_measure(c.measures["dice"])) for c in scores.classes]
    table = _table(("class", "Dice", "95 % interval", f"{facts.noun}s"), rows)
    if scores.whole:
        whole = [(name, *_measure(measure)) for name, measure in scores.whole.items()]
        table += "\n\n" + _table((f"of whole {facts.noun}s", "score", "95 % interval", f"{facts.noun}s"), whole)
    how = f"Measured on validation {facts.noun}s: not trained on, but used to choose the best moment of training."
    if facts.joined:
        how = (
            f"Measured on validation {facts.noun}s before they were trained on (`judged.safetensors`). The network that"
            f" is used (`weights.safetensors`) has learnt from them since: it should be as good or a little better, and"
            f" only {facts.noun}s that were set aside from the start can tell."
        )
    return f"{table}\n\n{how}"


def _confidence(facts: Facts) -> str:
    """Whether probabilities are true, and what is said of new images; empty where it was not measured."""
    view = confidence_view(facts)
    if view is None:
        return ""
    table = _table(
        ("measure (0 is perfect)", "before calibration", "after"), [(n, _fine(b), _fine(a)) for n, b, a in view.rows]
    )
    told = [escape(line.replace("`", "")) for line in (view.lead, *view.notes) if line]
    return "\n\n".join([part for part in (table, *told) if part])


def _fine(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _measure(measure: Measure) -> tuple[str, str, str]:
    known = measure.low is not None and measure.high is not None
    return (
        "–" if measure.value is None else f"{measure.value:.3f}",
        f"{measure.low:.3f} to {measure.high:.3f}" if known else "–",
        str(measure.cases or "–"),
    )


def _use(facts: Facts) -> str:
    if facts.synthetic:
        seen = f"The model has seen only generated {facts.noun}s, and is of no use on real ones."
        return f"To show and test the toolkit. {seen}"
    what = listed([c.name for c in facts.foreground])
    where, same = {
        1: ("signals", "instrument, unit and sampling rate"),
        2: ("two-dimensional images", "preparation, instrument and pixel size"),
        3: ("volumes", "sequence or stain, instrument, orientation and voxel size"),
    }[facts.ndim]
    return escape(f"Finding {what} in {where} that look like those it learnt from: the same kind of subject, {same}.")


def _limits(facts: Facts, scores: ScoreView) -> list[str]:
    lines = []
    if facts.synthetic:
        lines.append(f"**Synthetic data**: a program made the {facts.noun}s; the scores say nothing about real ones.")
    learnt = sum(row["split"] == "train" for row in facts.split)
    if 0 < learnt < 50:
        lines.append(f"It learnt from {plural(learnt, facts.noun)}; what they do not show it does not know.")
    if scores.mean.cases and scores.mean.cases < 10:
        lines.append(f"The scores rest on {scores.mean.cases} {facts.noun}s: take the interval seriously.")
    weak = [c.name for c in scores.classes if (d := c.measures["dice"].value) is not None and d < 0.5]
    if weak:
        lines.append(escape(f"It finds {listed(weak)} poorly (Dice below 0.5)."))
    if facts.split and not any(row.get("group") for row in facts.split):
        lines.append("Groups (patients, animals, slides) were not known: scores may be too high for new ones.")
    serious = [row for row in views.findings(facts) or [] if row["severity"] in ("error", "warning")]
    lines += [f"{escape(row['message'])} ({escape(row['file'])})" for row in serious[:10]]
    if len(serious) > 10:
        lines.append(f"{len(serious) - 10} more findings about the data are in `report.html`.")
    return [*lines, "It is not a medical device, and nobody has tested it as one."]
