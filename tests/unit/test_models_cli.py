"""`unetkit models`: what is printed, what is written, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unetkit.cli import main
from unetkit.core.machine import format_memory
from unetkit.nets.geometry import activation_memory, geometry
from unetkit.nets.presets import PRESETS
from unetkit.nets.spec import PARTS


def test_a_line_per_network_in_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["name", "axes", "params", "FLOPs", "halo", "tiles", "year", "paper"]
    rows = {line.split()[0]: line for line in lines[2:] if line.split()[0] in PRESETS}
    assert [*rows] == [*PRESETS]
    assert rows["unet3d"].split()[1:9] == ["3", "19.1", "M", "194", "G", "51", "exact", "2016"]
    assert rows["transunet"].split()[6:8] == ["58", "blended"]
    assert "512² or 96³ or 5000" in " ".join(lines)


def test_a_wide_terminal_has_room_for_papers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert "Zhou et al.: UNet++, figure 1" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("ndim", [None, 1, 2, 3])
def test_the_list_as_json(ndim: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json", *([] if ndim is None else ["--ndim", str(ndim)])]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [*PRESETS]
    for row in rows:
        entry = PRESETS[row["name"]]
        facts = geometry(entry.form(ndim))
        assert row["ndim"] == (ndim or entry.spec.ndim)
        assert row["parameters"] == facts.parameters
        assert row["halo"] == list(facts.halo)
        assert row["local"] is facts.local
        assert bool(row["why_not_local"]) is not facts.local
        assert (row["paper"], row["year"]) == (entry.paper, entry.year)


def test_the_flow_of_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "unet2015", "--size", "570x572"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    flat = " ".join(out.split())
    assert "in 1 channel, 570 × 572 pixels, padded to 572 × 572 pixels" in flat
    assert "out 2 channels, 386 × 388 pixels" in flat
    assert "encoder4 28² 1024 14.2 M 7.7% 2 conv 3×3, dropout" in flat
    assert "skip0 392² 128 crop, concat" in flat
    assert "parameters 31.0 M (31 030 658)" in flat
    assert "halo 107, receptive field 204 pixels" in flat
    assert "188 plus multiples of 16 pixels" in flat
    assert "the output lacks 92 pixels on each side" in flat
    assert "tiles exact: the same as of the whole image" in flat
    memory = format_memory(activation_memory(PRESETS["unet2015"].spec, 1, (570, 572), training=True))
    assert f"to predict, {memory} to train" in flat
    assert "unusual unpadded convolutions" in flat


def test_fields_change_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    words = "models show unet --channels 3 --classes 4 --set net.block=residual --set net.channels=8,16 --ndim 3"
    assert main([*words.split(), "--size", "16", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["in_channels"], shown["classes"], shown["ndim"]) == (3, 4, 3)
    assert shown["size"] == shown["padded"] == shown["output"] == [16, 16, 16]
    parts = {p["name"]: p for p in shown["parts"]}
    assert parts["encoder1"]["size"] == [8, 8, 8]
    assert parts["encoder1"]["channels"] == 16
    assert parts["encoder1"]["what"] == "2 conv 3³, conv 1×1×1, add"
    assert parts["head"]["channels"] == 4
    assert sum(p["parameters"] for p in shown["parts"]) == shown["parameters"]
    assert sum(p["flops"] for p in shown["parts"]) == shown["flops"]


def test_what_is_not_exact_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "nnunet"]) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert "tiles blended: instance norm takes its statistics over the whole tile" in flat
    assert "head1 256² 2 130 training conv 1×1" in flat


def test_every_part_has_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "parts", "--json"]) == 0
    docs = json.loads(capsys.readouterr().out)
    assert {field: set(names) for field, names in docs.items()} == {
        field: set(names) for field, names in PARTS.items() if field != "decoder_block"
    }
    assert docs["skip"]["concat"] == "Side by side, the encoder's channels first (Ronneberger 2015)"
    assert docs["up"]["linear"] == "1×1 convolution, then linear interpolation"
    assert all(len(doc) > 10 for names in docs.values() for doc in names.values())
    assert main(["models", "parts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("net.")][:2] == ["net.block", "net.skip"]


def test_a_picture_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "x.svg"
    assert main(["models", "draw", "unet", "-o", str(path), "--set", "net.topology=nested", "--size", "64"]) == 0
    assert capsys.readouterr().out == f"{path}: the picture; open it in a browser\n"
    assert path.read_text(encoding="utf-8").startswith("<svg ")
    assert "64² pixels" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["x.svg"]


def test_code_of_your_own_needs_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shown_parts.py").write_text("def bare(w, x, kernel):\n    return w.unit(x, x.channels, 5)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["models", "show", "unet", "--set", "net.bottleneck=shown_parts:bare"]
    assert main(words) == 2
    assert "net.bottleneck 'shown_parts:bare' is code of your own" in capsys.readouterr().err
    assert main([*words, "--trust"]) == 0
    assert "bottleneck" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "unetkit models takes show, draw, parts or nothing, not 'unet'; did you mean `unetkit models show unet`?"),
        ("sho", "unetkit models takes show, draw, parts or nothing, not 'sho'; did you mean 'show'?"),
        ("show", "unetkit models show needs NAME (a network of `unetkit models`), for example:\n"
                 "  unetkit models show unet"),
        ("draw", "unetkit models draw needs -o (a file for the picture), for example:\n"
                 "  unetkit models draw unet -o unet.svg"),
        ("draw unet -o a.png", "-o a.png: pictures of networks are SVG files; for example -o a.svg"),
        ("show unet --size 12a", "--size 12a: write it in pixels, such as 256x256; one number holds for all axes"),
        ("show unet --size 8x8x8",
         "a size of 8 × 8 × 8 pixels has 3 axes, this network has 2; give a size like 512x512"),
        ("show unet2015 --size 100", "an input of 100 × 100 pixels gives no output: this network takes away 92 × 92 "
                                     "pixels on each side; give 185 × 185 pixels or more, or use another padding than "
                                     "'valid'"),
        ("show unet --set optim.lr=1",
         "--set optim.lr: only fields of the network can be set here, such as net.block=residual"),
        ("show unet --set net.blok=x", "--set: there is no field 'net.blok'; `unetkit plan --fields` lists the fields; "
                                       "did you mean 'net.block'?"),
        ("show unet --ndim 4", "--ndim 4: must be 1 (signals), 2 (images) or 3 (volumes)"),
        ("--ndim 0", "--ndim 0: must be 1 (signals), 2 (images) or 3 (volumes)"),
        ("show unet --channels 0", "--channels 0: must be 1 or more"),
        ("show unet --classes 1.5", "--classes 1.5: must be a whole number"),
    ],
)  # fmt: skip
def test_refusals(argv: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *(argv.split() or ["unet"])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {message}\n"


def test_an_unknown_network_has_a_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "unett"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no network called 'unett'; did you mean 'unet'?")


def test_nothing_of_it_needs_torch() -> None:
    code = (
        "import sys; from unetkit.cli import main; main(['models', 'show', 'unetpp']); "
        "main(['models', 'parts']); print([m for m in ('torch', 'scipy', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
