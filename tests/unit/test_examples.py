"""The examples run to their end in a few steps and print what they promise; their parts are right."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import unetkit as uk

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of the examples, imported as a script finds them: from its own folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    names = ("python_text", "tag_python", "fill_text")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def letters(examples: dict[str, ModuleType], text: str) -> str:
    return "".join(" nkdsco"[k] for k in examples["tag_python"].tag(text))


def test_characters_have_the_class_of_their_token(examples: dict[str, ModuleType]) -> None:
    assert letters(examples, "if x1 >= 0x1F:  # é\n\tpass\n") == "kk nn oo dddd" + "o  ccc" + "  kkkk "
    assert letters(examples, 'a = """b\n1 # c"""\n') == "n o " + "s" * 13 + " "
    assert letters(examples, "match = (\\\n 2)") == "nnnnn o o   do"
    assert letters(examples, "f'{a + 1}' + rb'x'\n") == "s" * 10 + " o " + "s" * 5 + " "


@pytest.mark.parametrize("text", ["x = '''open", "if x:\n  y\n z\n", "a = $\n"])
def test_what_is_no_python_is_left_out(
    examples: dict[str, ModuleType], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = examples["python_text"].Source("odd.py", text)
    assert examples["tag_python"].tag_all([source]) == {}
    assert capsys.readouterr().out.startswith("odd.py is left out: ")


def test_text_becomes_integers_and_back(examples: dict[str, ModuleType]) -> None:
    text = examples["python_text"]
    ids = text.encode("\tif x:\n ~é\x0c€")
    assert ids.max() == text.OTHER == text.CHARACTERS - 1
    assert text.decode(ids) == "\tif x:\n ~���"
    assert text.decode(np.array([0, examples["fill_text"].MASK])) == "\n░"


@pytest.fixture
def folder(tmp_path: Path, examples: dict[str, ModuleType]) -> Path:
    """Forty files of Python, a few of which are held out and validate, one that is not in Python, and an empty one."""
    lines = ["# a comment", "def half(x):", "    'says what'", "    return x / 2.0", "", "print(half(3))", ""]
    (tmp_path / "library" / "tests").mkdir(parents=True)
    for number in range(40):
        (tmp_path / "library" / f"module{number}.py").write_text("\n".join(lines * 8).replace("half", f"h{number}"))
    (tmp_path / "library" / "odd.py").write_text("x = '''")
    (tmp_path / "library" / "empty.py").write_text("")
    (tmp_path / "library" / "tests" / "no.py").write_text("x = 1")
    found = examples["python_text"].python_files(tmp_path / "library")
    assert {source.part for source in found} == {"train", "val", "test"}
    assert len(found) == 41
    return tmp_path / "library"


def test_the_tagger_trains_scores_and_shows(
    examples: dict[str, ModuleType], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["net.channels=[4,8]", "sampling.patch=[256]", "sampling.batch=2", "machine.threads=1"]
    settings = [word for item in small for word in ("--set", item)]
    command = ["--folder", str(folder), "--run", str(tmp_path / "run"), *settings]
    examples["tag_python"].main([*command, "--steps", "3"])
    out = capsys.readouterr().out
    assert "odd.py is left out: " in out
    assert "if all were 'space', the commonest class: " in out
    for name in examples["tag_python"].CLASSES:
        assert f"\n{name:9} " in out
    assert "(held out); wrong: ! below" in out

    examples["tag_python"].main(["--folder", str(folder), "--load", str(tmp_path / "run"), "--colour", "always"])
    again = capsys.readouterr().out
    assert table(again) == table(out)
    assert "\x1b[0;" in again


def table(out: str) -> str:
    return out[out.index("\nheld-out characters") : out.index("wrong: ")]


def test_too_few_files_are_refused(examples: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    with pytest.raises(SystemExit, match="too few files"):
        examples["fill_text"].main(["--folder", str(tmp_path)])


def test_the_denoiser_trains_measures_fills_and_writes(
    examples: dict[str, ModuleType],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill = examples["fill_text"]
    monkeypatch.setattr(fill, "NET", fill.NET.replace({"channels": (8, 8), "strides": 4}))
    monkeypatch.setattr(fill, "WINDOW", 128)
    weights = tmp_path / "weights.safetensors"
    command = ["--folder", str(folder), "--length", "12", "--prompt", "def f("]
    fill.main([*command, "--steps", "3", "--save", str(weights)])
    out = capsys.readouterr().out
    for part in ("15 % masked", "50 % masked", "upper bound", "characters alike", "gzip", "lzma", "--- filled ---"):
        assert part in out
    assert "\n\ndef f(" in out

    fill.main([*command, "--load", str(weights)])
    again = capsys.readouterr().out
    assert again[again.index("\nbits per") :] == out[out.index("\nbits per") :]
    monkeypatch.setattr(fill, "NET", fill.NET.replace({"channels": (4, 8)}))
    with pytest.raises(uk.UnetkitError, match="these weights are of another network"):
        fill.main([*command, "--load", str(weights)])


def test_ctrl_c_ends_training_early_and_keeps_the_weights(
    examples: dict[str, ModuleType],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill = examples["fill_text"]

    def interrupted(*_: object) -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    monkeypatch.setattr(fill, "clock", interrupted)
    net = uk.UNet(classes=fill.NET.classes, like=fill.NET.replace({"channels": (8, 8), "strides": 4}))
    fill.train(net, torch.arange(60), minutes=1, steps=None, seed=0, save=tmp_path / "weights.safetensors")
    assert "stopped early" in capsys.readouterr().out
    assert (tmp_path / "weights.safetensors").is_file()


class Knowing(torch.nn.Module):
    """Says the same characters wherever it is asked, surer the further to the right."""

    def __init__(self, answer_L: torch.Tensor, classes: int, sureness: float) -> None:
        super().__init__()
        self.answer_L, self.classes, self.sureness = answer_L, classes, sureness

    def forward(self, ids_B1L: torch.Tensor) -> torch.Tensor:
        hot_LK = torch.nn.functional.one_hot(self.answer_L, self.classes).float()
        sure_L1 = self.sureness * torch.arange(1, len(self.answer_L) + 1)[:, None]
        return (hot_LK * sure_L1).T.expand(len(ids_B1L), -1, -1)


def test_bits_are_those_of_the_masked_characters(examples: dict[str, ModuleType]) -> None:
    fill, count = examples["fill_text"], examples["python_text"].CHARACTERS
    truth_BL = torch.arange(32).view(2, 16)
    masks_B = torch.tensor([1, 16])
    guessing = fill.bits(Knowing(truth_BL[0], count, 0.0), truth_BL, masks_B, torch.Generator())
    assert guessing.tolist() == pytest.approx([math.log2(count)] * 2)
    knowing = fill.bits(Knowing(truth_BL[0], count, 1e3), truth_BL[:1], masks_B[1:], torch.Generator())
    assert knowing.tolist() == pytest.approx([0.0])


def test_the_surest_character_is_written_first_and_what_stood_there_stays(examples: dict[str, ModuleType]) -> None:
    fill, text = examples["fill_text"], examples["python_text"]
    answer_L = torch.from_numpy(text.encode("return x")).long()
    asked = []

    class Watched(Knowing):
        def forward(self, ids_B1L: torch.Tensor) -> torch.Tensor:
            asked.append((ids_B1L[0, 0] == fill.MASK).sum().item())
            return super().forward(ids_B1L)

    start_L = torch.from_numpy(np.append(text.encode("RET"), [fill.MASK] * 5)).long()
    net = Watched(answer_L, text.CHARACTERS, 9.0)
    alike_K = torch.full((text.CHARACTERS,), 1 / text.CHARACTERS)
    assert text.decode(fill.unmask(net, start_L, 0.0, alike_K, torch.Generator()).numpy()) == "RETurn x"
    assert asked == [5, 4, 3, 2, 1]
    assert (start_L == fill.MASK).sum() == 5


def test_masks_cover_every_share_in_single_characters_and_runs(examples: dict[str, ModuleType]) -> None:
    masks_BL = examples["fill_text"].random_masks(400, 256, torch.Generator().manual_seed(0))
    shares_B = masks_BL.float().mean(1)
    assert shares_B.mean() == pytest.approx(0.5, abs=0.05)
    assert shares_B.min() < 0.05
    assert shares_B.max() > 0.95
    changes_B = (masks_BL[:, 1:] != masks_BL[:, :-1]).float().mean(1)
    middle = (shares_B > 0.4) & (shares_B < 0.6)
    assert changes_B[middle].max() > 0.4
    assert changes_B[middle].min() < 0.1
