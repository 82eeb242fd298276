"""What there is can be found: the table of losses, the list of the command line and docs/losses.md say the same."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from unetkit.cli import main
from unetkit.losses import LOSSES, parse_loss
from unetkit.losses.table import RAMP


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "docs" / "make_losses.py"
    spec = importlib.util.spec_from_file_location("make_losses", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(maker: ModuleType) -> None:
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(), "call python docs/make_losses.py"
    assert re.findall(r"^## (.*)$", maker.page(), re.MULTILINE) == [*LOSSES]
    for name, known in LOSSES.items():
        section = maker.page().split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert known.formula in section
        assert re.findall(r"^\| `(\w+)`", section, re.MULTILINE) == [p.name for p in known.parameters]


def test_expressions_shown_on_the_page_can_be_read(maker: ModuleType) -> None:
    shown = re.findall(r"loss\.terms=([^\"]+)\"|`((?:\w+ \+ )*[\d.*]*\w+\([\w=., ]+\))`", maker.page())
    ours = [a or b for a, b in shown if (a or b.split("(")[0].split("*")[-1].split(" ")[-1] in LOSSES)]
    assert len(ours) > 4
    for expression in ours:
        assert parse_loss(expression)


@pytest.mark.parametrize("name", LOSSES)
def test_functions_take_the_parameters_of_the_table(name: str) -> None:
    known = LOSSES[name]
    taken = [p for p in inspect.signature(known.of).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name for p in taken if p.default is p.empty} <= set(known.defaults) <= {p.name for p in taken}
    given = ", ".join(f"{p.name}={p.shown}" for p in (*known.parameters, RAMP))
    (term,) = parse_loss(f"{name}({given})")
    assert dict(term.values) == known.defaults


def test_the_command_line_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--losses"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for name, known in LOSSES.items():
        given = ", ".join(f"{p.name}={p.shown}" for p in (*known.parameters, RAMP))
        assert f"{name} {known.says} {given}" in out
        for parameter in known.parameters:
            assert parameter.says in out
