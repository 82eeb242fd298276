"""The report: complete and self-contained, honest about what is absent, and deaf to hostile names."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from unetkit.core.errors import MachineError, RunError
from unetkit.report import write_model_card, write_report
from unetkit.report.card import render_card
from unetkit.report.page import render

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&`{{7*7}}"


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("style", "script"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run: Path) -> Page:
    path = write_report(run)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_says_score_interval_time_and_what_was_learnt(made_run: Callable[..., Path]) -> None:
    text = " ".join(page_of(made_run()).text.split())
    assert "Finding cell and debris" in text
    assert (
        "In 6 min 00 s on 2 processor cores a network learnt to find cell and debris from 18 annotated images." in text
    )
    assert "On 6 images that it was not trained on its mean Dice is 0.800 (95 % interval 0.750 to 0.850)." in text
    assert "width 16 allows about 840 steps" in text  # a reason of the plan
    assert "sampling.oversample" in text  # a setting without a reason
    assert "No group is in two splits: all 4 are kept whole." in text
    assert "3 stray values" in text  # a finding
    assert "one image is very small" in text  # a warning of the run
    assert "unetkit train data/made-up -o runs/made-up --minutes 6" in text
    assert "Synthetic data" not in text
    assert "Not in this report" not in text


def test_loads_nothing_from_anywhere(made_run: Callable[..., Path]) -> None:
    run = made_run()
    page = page_of(run)
    references = [a[k] or "" for _, a in page.tags for k in ("src", "href", "srcset", "data", "action") if k in a]
    assert references
    assert all(reference.startswith(("#", "data:image/")) for reference in references)
    source = (run / "report.html").read_text()
    assert not re.search(r"@import|url\(|https?://", source)
    ids = Counter(a["id"] for _, a in page.tags if "id" in a)
    assert max(ids.values()) == 1
    assert {r[1:] for r in references if r.startswith("#")} <= set(ids)


def test_runs_its_own_script_only(made_run: Callable[..., Path]) -> None:
    run = made_run()
    page = page_of(run)
    source = (run / "report.html").read_text()
    assert len(page.all("script")) == 1
    script = source[source.index("<script>") + 8 : source.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in page.all("meta") if "content" in a and "http-equiv" in a)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_pictures_have_words_and_headings_descend(made_run: Callable[..., Path]) -> None:
    run = made_run()
    page = page_of(run)
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    source = (run / "report.html").read_text()
    for svg in re.findall(r"<svg.*?</svg>", source, re.S):
        assert "aria-hidden" in svg or "aria-label" in svg or "<title>" in svg


@pytest.mark.parametrize("where", ["class", "case", "data"])
def test_hostile_names_stay_text(made_run: Callable[..., Path], where: str) -> None:
    run = made_run(classes=("background", HOSTILE, "debris") if where == "class" else ("background", "cell", "debris"))
    if where == "case":
        examples = json.loads((run / "examples/examples.json").read_text())
        examples[0]["case"] = HOSTILE
        (run / "examples/examples.json").write_text(json.dumps(examples))
        change(run / "environment.json", commands=[HOSTILE], cpu=HOSTILE)
        (run / "findings.json").write_text(json.dumps([{"severity": HOSTILE, "file": HOSTILE, "message": HOSTILE}]))
    if where == "data":
        plan = json.loads((run / "plan.json").read_text())
        plan["data"]["path"] = HOSTILE
        plan["data"]["legend"]["reason"] = HOSTILE
        plan["reasons"]["net.channels"] = HOSTILE
        change(run / "plan.json", **plan)
    page = page_of(run)
    assert len(page.all("script")) == 1
    assert not page.all("img")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "alert(1)" in page.text  # shown as it is


OPTIONAL = [
    "fingerprint.json", "findings.json", "split.csv", "events.jsonl", "metrics.json", "scores.json",
    "environment.json", "examples/examples.json",
]  # fmt: skip


@pytest.mark.parametrize("name", OPTIONAL)
def test_absent_records_are_named(made_run: Callable[..., Path], name: str) -> None:
    run = made_run()
    (run / name).unlink()
    text = page_of(run).text
    assert f"{name} is absent: " in text
    assert text.count(" is absent: ") == 1


JUNK = ["", '{"cases": [', '"text"', "[1, 2]", "{}", "null", "\udcff"]


@pytest.mark.parametrize("name", [n for n in OPTIONAL if n.endswith(".json")])
@pytest.mark.parametrize("content", JUNK, ids=repr)
def test_damaged_records_do_not_stop_it(made_run: Callable[..., Path], name: str, content: str) -> None:
    run = made_run()
    (run / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    text = page_of(run).text
    write_model_card(run)
    if content not in ("[1, 2]", "{}"):
        assert f"{name} is damaged: " in text


def test_no_value_of_a_record_stops_it(made_run: Callable[..., Path]) -> None:
    """Every value of every record in turn becomes something that it should not be."""
    run = made_run(cases=1)
    (run / "examples/examples.json").unlink()
    (run / "events.jsonl").unlink()
    for name in ("scores.json", "metrics.json", "environment.json", "fingerprint.json", "findings.json", "plan.json"):
        original = json.loads((run / name).read_text())
        for n, path in enumerate(places(original)):
            if name == "plan.json" and path[:2] in (("data",), ("data", "legend")):
                continue  # a plan without classes is refused
            for wrong in (WRONG[n % len(WRONG)], WRONG[(n + 3) % len(WRONG)]):
                (run / name).write_text(json.dumps(replaced(original, path, wrong)))
                render(run)
                render_card(run)
        (run / name).write_text(json.dumps(original))


WRONG = (None, 3, -1.5, "text", [], {}, [None, 7], {"a": None})


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *[place for key, child in items for place in places(child, (*path, key))]][0 if path else 1 :]


def replaced(value: Any, path: tuple[str | int, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], wrong)
    return copy


def test_plan_alone_is_enough(made_run: Callable[..., Path]) -> None:
    run = made_run()
    for path in run.rglob("*"):
        if path.is_file() and path.name != "plan.json":
            path.unlink()
    text = page_of(run).text
    assert "It has not been scored yet." in text
    assert text.count(" is absent: ") == len(OPTIONAL)
    assert "unetkit train data/made-up -o " in text


def test_a_killed_run_leaves_half_a_line(made_run: Callable[..., Path]) -> None:
    run = made_run()
    with (run / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "progress", "task": "train", "done": 401, "lo\xff')
    assert "Training loss" in page_of(run).text


def test_without_scores_the_best_validation_counts(made_run: Callable[..., Path]) -> None:
    run = made_run()
    (run / "scores.json").unlink()
    text = " ".join(page_of(run).text.split())
    assert "On the validation images its mean Dice is 0.800." in text
    assert "no interval is recorded" in text


def test_synthetic_data_is_said_to_be(made_run: Callable[..., Path]) -> None:
    run = made_run()
    plan = json.loads((run / "plan.json").read_text())
    plan["data"]["synthetic"] = True
    change(run / "plan.json", **plan)
    assert "These images were generated by a program" in page_of(run).text


def test_torn_groups_are_said(made_run: Callable[..., Path]) -> None:
    run = made_run()
    text = (run / "split.csv").read_text().replace("rat9", "rat0")
    (run / "split.csv").write_text(text)
    assert "1 of 3 groups are in more than one split (rat0): scores are too high." in page_of(run).text
    (run / "split.csv").write_text(text.replace("rat0", "").replace("rat1", "").replace("rat2", ""))
    assert "are not known for these images" in page_of(run).text


def test_many_cases_are_cut_and_counted(made_run: Callable[..., Path]) -> None:
    page = page_of(made_run(cases=320))
    assert "worst first; 20 better ones are in scores.csv" in page.text


def test_measures_of_whole_images_and_notes_are_shown(made_run: Callable[..., Path]) -> None:
    run = made_run()
    scores = json.loads((run / "scores.json").read_text())
    v_rand = {"class": "mean", "metric": "v_rand", "mean": 0.9651, "low": 0.95, "high": 0.98, "n": 6, "missing": 0}
    change(run / "scores.json", summary=[v_rand, *scores["summary"]], notes=["a.png: left out of the scores"])
    text = page_of(run).text
    assert "V_rand0.9650.950 to 0.9806" in text
    assert "a.png: left out of the scores" in text
    assert "95 % percentile bootstrap over" in text


def test_findings_may_be_none_at_all(made_run: Callable[..., Path]) -> None:
    run = made_run()
    (run / "findings.json").write_text("[]")
    assert "Nothing to mend" in page_of(run).text


def test_unreadable_examples_are_named(made_run: Callable[..., Path]) -> None:
    run = made_run()
    (run / "examples" / "case00-truth.png").write_bytes(b"not a picture")
    (run / "examples" / "case03-truth.png").unlink()
    text = page_of(run).text
    assert "Example case00 cannot be shown: " in text
    assert "Example case03 cannot be shown: case03-truth.png is absent." in text


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"plan.json: the plan is missing; is .* a folder that `unetkit train` wrote\?"):
        write_report(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"data": {"legend": {"classes": [1]}}}'])
def test_a_plan_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(RunError, match=r"plan.json: the plan names no classes \(data.legend\)"):
        write_report(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_report_where_a_folder_stands(made_run: Callable[..., Path]) -> None:
    run = made_run()
    (run / "report.html").mkdir()
    with pytest.raises(MachineError, match=r"report.html: "):
        write_report(run)


def test_needs_no_torch() -> None:
    code = "import sys, unetkit.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
