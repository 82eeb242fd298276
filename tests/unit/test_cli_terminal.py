"""What a terminal shows of events: live where somebody watches, plain lines where nobody does."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from unetkit.cli.terminal import LiveTerminal, PlainTerminal, open_terminal
from unetkit.core.events import Decided, Done, Event, Progress, Saved, Started, Validated, Warned

STORY: list[Event] = [
    Started(task="check"),
    Decided(what="data.layout", value="12 pairs", why="images/ + masks/ [paired] by name"),
    Started(task="plan"),
    Decided(what="machine.precision", value="bf16", why="a step takes 0.4 s"),
    Decided(what="machine.layout", value="channels_last", why="a step takes 0.4 s"),
    Decided(what="cost", value="about 6 min 00 s, 839 steps", why=""),
    Started(task="train", total=0),
    Progress(task="train", done=1, fraction=0.01, eta=350.0, loss=1.25),
    Warned(message="the doctor has 2 remarks"),
    Progress(task="train", done=2, fraction=0.02, eta=350.0, loss=1.2, dice=0.5),
    Validated(
        step=2,
        fraction=0.1,
        seconds=9,
        loss=1.2,
        lr=1e-3,
        dice=0.512,
        per_class={"bg": 0.9, "cell": 0.512, "odd": None, "wall": 0.4},
        best=True,
    ),
    Validated(step=3, fraction=0.2, seconds=9, loss=1.1, lr=1e-3, dice=None),
    Decided(what="settled", value="step 3", why="nothing better"),
    Saved(path="run/weights.safetensors", what="the weights of step 2"),
    Saved(path="out/a.png", what="prediction"),
    Saved(path="run/report.html", what="the report"),
    Done(task="train", message="Dice 0.512 on 3 images"),
]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(quiet: bool = False) -> tuple[PlainTerminal, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return PlainTerminal(Console(file=out, width=60, highlight=False, markup=False), quiet, clock), out, clock


def live(width: int = 80, quiet: bool = False) -> tuple[LiveTerminal, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, highlight=False, markup=False, no_color=True)
    return LiveTerminal(console, quiet), out


def without_codes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_plain_lines() -> None:
    terminal, out, _ = plain()
    with terminal:
        for event in STORY:
            terminal(event)
    assert out.getvalue().splitlines() == [
        "data.layout · 12 pairs · images/ + masks/ [paired] by name",
        "machine.precision · bf16 · a step takes 0.4 s",
        "machine.layout · channels_last · a step takes 0.4 s",
        "Estimate: about 6 min 00 s, 839 steps",
        "warning: the doctor has 2 remarks",
        " 10%  step 2  loss 1.200  Dice 0.512 best  (bg 0.90, cell 0.51, wall 0.40)",
        " 20%  step 3  loss 1.100  no class occurs in the validation images",
        "settled · step 3 · nothing better",
        "saved run/weights.safetensors: the weights of step 2",
        "Dice 0.512 on 3 images",
    ]


def test_plain_progress_is_modest() -> None:
    terminal, out, clock = plain()
    terminal(Started(task="train"))
    for second in range(1, 31):
        clock.now = float(second)
        terminal(Progress(task="train", done=second, fraction=second / 30, eta=30.0 - second, loss=0.5, dice=0.25))
    assert out.getvalue().splitlines() == [
        "training 33% · step 10 · loss 0.500 · Dice 0.250 · 20 s left",
        "training 67% · step 20 · loss 0.500 · Dice 0.250 · 10 s left",
        "training 100% · step 30 · loss 0.500 · Dice 0.250 · 0 s left",
    ]


def test_plain_progress_of_other_tasks_names_the_image() -> None:
    terminal, out, clock = plain()
    terminal(Started(task="predict"))
    clock.now = 10.0
    terminal(Progress(task="predict", done=1, fraction=0.5, note=f"{'long/' * 10}a.png"))
    assert out.getvalue() == "predicting 50% · …/long/long/long/long/long/a.png\n"


def test_quiet_keeps_warnings_and_results() -> None:
    for terminal, out in (plain(quiet=True)[:2], live(quiet=True)):
        with terminal:
            terminal.doing("loading")
            for event in STORY:
                terminal(event)
            terminal.hint("next: more")
            terminal.result("out: the masks")
        assert without_codes(out.getvalue()) == "warning: the doctor has 2 remarks\nout: the masks\n"


def test_live_shows_a_table_the_estimate_and_the_bar() -> None:
    terminal, out = live()
    with terminal:
        terminal.doing("examining the data")
        for event in STORY:
            terminal(event)
    text = without_codes(out.getvalue())
    assert re.search(r"decision +value +why", text)
    assert re.search(r"data.layout +12 pairs +images/ \+ masks/ \[paired\] by name", text)
    assert re.search(r"machine.layout +channels_last +as above", text)
    assert text.index("machine.layout") < text.index("Estimate: about 6 min 00 s, 839 steps") < text.index("step 2")
    assert "Ctrl-C saves and stops; the same command goes on." in text
    assert text.rstrip().endswith("Dice 0.512 on 3 images")


def test_live_lines_fit_the_width() -> None:
    for width in (80, 120):
        terminal, out = live(width)
        classes = {f"class {k}": 0.5 for k in range(30)}
        with terminal:
            terminal(Started(task="train"))
            terminal(Progress(task="train", done=123456, fraction=0.5, eta=123456.0, loss=0.123, dice=0.5))
            terminal(Validated(step=9, fraction=0.5, seconds=1, loss=0.1, lr=0.1, dice=0.5, per_class=classes))
        lines = re.split(r"[\r\n]", without_codes(out.getvalue()))
        assert max(map(len, lines)) <= width
        assert sum("class 0" in line for line in lines) == 1


def test_what_was_decided_is_shown_when_an_error_follows() -> None:
    terminal, out = live()

    def fails_later() -> None:
        with terminal:
            terminal(Started(task="check"))
            terminal(Decided(what="data.layout", value="12 pairs", why="by name"))
            raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        fails_later()
    assert "12 pairs" in without_codes(out.getvalue())


def test_saving_is_asked_for_only_between_steps() -> None:
    terminal, _, _ = plain()
    seen = []
    for event in (Started(task="plan"), Started(task="train"), Started(task="score"), Done(task="train", message="")):
        terminal(event)
        seen.append(terminal.saves)
    assert seen == [False, True, False, False]


def test_a_stop_is_answered_in_the_bar() -> None:
    terminal, out = live()
    with terminal:
        terminal(Started(task="train"))
        terminal.stopping()
    assert "finishing this step, then saving; Ctrl-C again: at once" in without_codes(out.getvalue())


def test_no_control_codes_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = open_terminal()
    assert isinstance(terminal, PlainTerminal)
    with terminal:
        terminal.doing("loading")
        for event in STORY:
            terminal(event)
    assert "\x1b" not in capsys.readouterr().out
