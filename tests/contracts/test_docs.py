"""What the READMEs show works, and the two languages are in step."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetkit.cli import main

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))


def blocks(text: str) -> list[str]:
    """Code blocks without their comments and spacing."""
    found = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.DOTALL)
    return ["\n".join(re.sub(r"\s+#.*", "", line).rstrip() for line in block.splitlines()) for block in found]


def test_both_languages_show_the_same_code_pictures_and_sections() -> None:
    assert blocks(ENGLISH) == blocks(CHINESE)
    for pattern in (r"\]\((docs/images/[^)]+)\)", r"^(#+) ", r"`(--[a-z]+)"):
        assert re.findall(pattern, ENGLISH, re.MULTILINE) == re.findall(pattern, CHINESE, re.MULTILINE)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", ENGLISH + CHINESE):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("line", re.findall(r"^unetkit .*$", ENGLISH, re.MULTILINE))
def test_every_command_and_flag_shown_exists(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = line.replace("#", "").split()
    assert main([words[1], "--help"]) == 0
    shown = capsys.readouterr().out
    for flag in re.findall(r"(?<!\S)--?[a-z]+", " ".join(words)):
        assert re.search(rf"(?<![\w-]){flag}\b", shown), flag


def test_the_five_lines_of_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for folder in ("data/images", "data/masks", "new_images"):
        (tmp_path / folder).mkdir(parents=True)
    for k in range(4):
        mask = np.kron(random.random((3, 3)) > 0.5, np.ones((16, 16))).astype(bool)
        image = np.clip(80 + 80 * mask + random.normal(0, 10, mask.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"{k}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / "data" / "masks" / f"{k}.png")
        Image.fromarray(image).save(tmp_path / "new_images" / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    code = next(block for block in re.findall(r"```python\n(.*?)```", ENGLISH, re.DOTALL))
    values: dict[str, object] = {"image_array": image}
    exec(compile(code.replace("minutes=6", "steps=3"), "README.md", "exec"), values)  # noqa: S102 (our own README)
    result = values["mask"]
    assert isinstance(result, np.ndarray)
    assert result.shape == image.shape
    assert set(np.unique(result)) <= {0, 255}
    assert sorted(p.name for p in (tmp_path / "masks").glob("*.png")) == [f"{k}.png" for k in range(4)]
