"""The command line: help, refusals by their text, exit statuses, and what is handed to the api."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from unetkit.cli import main
from unetkit.cli.app import EXAMPLES
from unetkit.core.errors import DataError, RunError
from unetkit.core.events import Done, Event, Progress, Started, Warned

Errors = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Errors:
    """`refused("check", …)` is the message of a command that must end with status 2 and print nothing else."""

    def run(*argv: str) -> str:
        assert main(argv) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert "Traceback" not in captured.err
        return captured.err.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Verbs that record how they were called, and do nothing; loads the real module once."""
    import unetkit.api

    calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}

    def stub(name: str, result: Any) -> None:
        def verb(*args: Any, **options: Any) -> Any:
            calls.setdefault(name, []).append((args, options))
            return result

        monkeypatch.setattr(unetkit.api, name, verb)

    stub("predict", Found(done=(Path("out/a.png"),)))
    stub("report", Path("run/report.html"))
    return calls


@dataclass(frozen=True)
class Found:
    done: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Planned:
    plan: Any


class Values:
    def model_dump(self, mode: str) -> dict[str, Any]:
        return {"version": 1, "optim": {"lr": 0.002}}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_help_and_import_load_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'scipy', 'skimage', 'pydantic', 'yaml', 'PIL')"
    loaded = f"print([m for m in {heavy} if m in sys.modules])"
    assert python(f"import sys, unetkit; {loaded}").strip() == "[]"
    code = "import sys; from unetkit.cli import main; main(['--help']); main(['train', '--help']); "
    assert python(code + loaded).splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "unetkit", "chek"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "error: there is no command 'chek'; the commands are sample, check, plan, augment, train, predict, evaluate,"
        " report, import, models; did you mean 'check'?\n"
    )


def test_a_reader_that_goes_away_is_silent() -> None:
    command = f"{sys.executable} -m unetkit plan --fields | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("Set a field with --set")


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: unetkit {command}")
    assert EXAMPLES[command] in out
    assert "[default: False]" not in out


def test_help_lists_the_commands_in_the_order_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    places = [out.index(f"│ {command} ") for command in EXAMPLES]
    assert places == sorted(places)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from unetkit import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "check",
            "unetkit check needs DATA (a folder of images and masks, or a CSV), for example:\n  unetkit check cells/",
        ),
        (
            "plan",
            "unetkit plan needs DATA (a folder of images and masks, or a CSV), for example:\n"
            "  unetkit plan cells/ --minutes 6",
        ),
        (
            "predict run images",
            "unetkit predict needs -o (folder for the masks), for example:\n  unetkit predict run images/ -o masks",
        ),
        (
            "predict run -o out",
            "unetkit predict needs IMAGES (image files, a folder of them, or a quoted pattern), for example:\n"
            "  unetkit predict run images/ -o masks",
        ),
        ("train d -o", "unetkit train: -o needs a value; `unetkit train --help` shows all"),
        (
            "train d -o r --minuts 6",
            "unetkit train has no option --minuts; `unetkit train --help` shows all; did you mean '--minutes'?",
        ),
        ("train d -o r --precision bf", "--precision 'bf' is none of auto, fp32, bf16; did you mean 'bf16'?"),
        (
            "train d -o r --layout channels-last",
            "--layout 'channels-last' is none of auto, contiguous, channels_last; did you mean 'channels_last'?",
        ),
        ("train d -o r --steps 1.5", "--steps 1.5: must be a whole number"),
        ("train d -o r --steps 0", "--steps 0: must be 1 or more, for example --steps 2000"),
        ("train d -o r --minutes six", "--minutes 'six' is not a number"),
        ("train d -o r --minutes -1", "--minutes -1: must be above 0, for example --minutes 6"),
        ("train d -o r --minutes 6 --steps 9", "--minutes and --steps exclude each other; give one of them"),
        (
            "check d e",
            "unetkit check: too many words: e; quote names that hold spaces; `unetkit check --help` shows all",
        ),
        ("check d -q -q", "unetkit check: -q is given twice; give it once"),
        ("check d --ignore x", "--ignore x: must be a whole number"),
        ("check d --background nnone", "--background nnone: write a value of the masks, or none; did you mean 'none'?"),
        ("check d --classes a,,b", "--classes 'a,,b' holds an empty name; write it like background,cell,membrane"),
        ("check d --classes a,a", "--classes 'a,a' holds a name twice; every class needs its own"),
        ("plan d -o plan.txt", "-o plan.txt: a plan is a .yaml or .json file; for example -o plan.yaml"),
        ("plan d --set lr", "--set lr: write it as FIELD=VALUE, such as --set optim.lr=0.001"),
        (
            "plan d --set optim.lrr=1",
            "--set: there is no field 'optim.lrr'; `unetkit plan --fields` lists the fields; did you mean 'optim.lr'?",
        ),
        (
            "plan d --set lr=1",
            "--set: there is no field 'lr'; `unetkit plan --fields` lists the fields; did you mean 'optim.lr'?",
        ),
        ("plan d --settings none.yaml", "none.yaml: there is no such settings file"),
        (
            "predict run i -o o --memory lots",
            "--memory 'lots' is not an amount of memory; write it like 800MB, 1GB or 1.5GiB",
        ),
    ],
)
def test_refusals(argv: str, message: str, refused: Errors) -> None:
    assert refused(*argv.split()) == message


def test_an_unknown_network_is_refused_before_any_work(refused: Errors) -> None:
    assert refused("train", "d", "-o", "r", "--model", "unett").startswith(
        "there is no network called 'unett'; did you mean 'unet'?"
    )


def test_a_settings_file_with_an_unknown_field_is_named(tmp_path: Path, refused: Errors) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("optim:\n  learning_rate: 1\n")
    assert refused("plan", "d", "--settings", str(file)).startswith(f"{file}: there is no field 'optim.learning_rate'")


def test_sample_refuses_a_folder_with_files(tmp_path: Path, refused: Errors) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert refused("sample", str(tmp_path)) == (
        f"{tmp_path}: holds files already; nothing was written; name a new or empty folder"
    )


def test_sample_writes_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    assert main(["sample", str(folder), "--count", "2"]) == 0
    assert len(list(folder.rglob("*.png"))) == 4
    assert capsys.readouterr().out == (
        f"{folder}: 2 synthetic images with masks, in train and test\n"
        f"next: unetkit train {folder / 'train'} -o run --minutes 2\n"
    )


def test_what_the_user_says_reaches_the_request(tmp_path: Path) -> None:
    from unetkit.cli.flags import Budget, Choices, Masks, make_request

    file = tmp_path / "s.yaml"
    file.write_text("optim: {lr: 0.1}\nsampling: {batch: 3}\n")
    request = make_request(
        Masks(classes="a, b", ignore=7, background="None"),
        Budget(steps=9),
        Choices(
            seed=2, precision="fp32", settings=file, fields=("optim.lr=0.5", "sampling.patch=64,96", "loss.terms=ce")
        ),
    )
    assert request.classes == ("a", "b")
    assert (request.ignore, request.background, request.steps, request.seed) == (7, "none", 9, 2)
    assert request.settings == {
        "optim.lr": "0.5",
        "sampling.batch": 3,
        "sampling.patch": [64, 96],
        "loss.terms": "ce",
    }
    assert make_request(Masks(background="0")).background == 0


def test_every_settable_field_is_listed_and_most_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    from unetkit.cli.fields import settable_fields

    fields = {field.name: field for field in settable_fields()}
    assert fields["net.channels"].default == "16,32,64,128,256"
    assert fields["net.norm"].choices == ("batch", "instance", "group", "layer", "none")
    assert "finest first" in fields["net.channels"].doc
    assert "'" not in fields["prepare.method"].name
    assert fields["prepare.method"].doc.startswith('"zscore"')
    assert fields["augment.turn"].doc.startswith("Quarter turns")
    assert main(["plan", "--fields"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in fields)


def test_plan_is_written_and_never_over_one_that_may_have_been_edited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import unetkit.api

    monkeypatch.setattr(unetkit.api, "plan", lambda data, request, listen: Planned(Values()))
    monkeypatch.chdir(tmp_path)
    for name, read in (("plan.yaml", yaml.safe_load), ("p.yaml", yaml.safe_load), ("p.json", json.loads)):
        assert main(["plan", "d", *([] if name == "plan.yaml" else ["-o", name])]) == 0
        assert read((tmp_path / name).read_text()) == {"version": 1, "optim": {"lr": 0.002}}
        assert f"`unetkit train d -o run --settings {name}`" in capsys.readouterr().out
    (tmp_path / "plan.yaml").write_text("edited")
    assert main(["plan", "d"]) == 0
    assert capsys.readouterr().out == "plan.yaml exists and is kept as it is; -o FILE writes this plan\n"
    assert (tmp_path / "plan.yaml").read_text() == "edited"


def training(monkeypatch: pytest.MonkeyPatch, events: list[Event], finished: bool) -> None:
    import unetkit.api

    def work(data: Path, run: Path, request: Any, stopped: Callable[[], bool]) -> Iterator[Event]:
        yield from events
        return finished

    monkeypatch.setattr(unetkit.api, "training_events", work)


def test_train_says_where_the_report_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    training(monkeypatch, [Done(task="train", message="Dice 0.8")], finished=True)
    assert main(["train", "d", "-o", "r"]) == 0
    assert (
        capsys.readouterr().out
        == "Dice 0.8\nr/report.html: open it in a browser\nnext: unetkit predict r IMAGES -o masks\n"
    )
    assert main(["train", "d", "-o", "r", "-q"]) == 0
    assert capsys.readouterr().out == "r/report.html: open it in a browser\n"


def test_train_that_was_stopped_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training(monkeypatch, [Done(task="train", message="stopped after step 3")], finished=False)
    assert main(["train", "my cells", "-o", "r", "--steps", "9"]) == 130
    captured = capsys.readouterr()
    assert captured.out == "stopped after step 3\n"
    assert captured.err == "to go on:\n  unetkit train 'my cells' -o r --steps 9\n"


def test_ctrl_c_before_the_first_step_stops_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import signal

    import unetkit.api

    before = signal.getsignal(signal.SIGINT)

    def work(data: Path, run: Path, request: Any, stopped: Callable[[], bool]) -> Iterator[Event]:
        yield Started(task="plan")
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the signal must interrupt")

    monkeypatch.setattr(unetkit.api, "training_events", work)
    assert main(["train", "d", "-o", "r"]) == 130
    assert capsys.readouterr().err == "stopped; to go on:\n  unetkit train d -o r\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_between_steps_lets_the_step_finish(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import signal

    import unetkit.api

    def work(data: Path, run: Path, request: Any, stopped: Callable[[], bool]) -> Iterator[Event]:
        yield Started(task="train")
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        yield Done(task="train", message="stopped after step 1")
        return False

    monkeypatch.setattr(unetkit.api, "training_events", work)
    assert main(["train", "d", "-o", "r"]) == 130
    assert "warning: stopping after this step, then saving; Ctrl-C again stops at once\n" in capsys.readouterr().out


def test_train_names_the_run_after_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import unetkit.api

    runs = []

    def work(data: Path, run: Path, *_: Any) -> Iterator[Event]:
        runs.append(run)
        return iter(())

    monkeypatch.setattr(unetkit.api, "training_events", work)
    (tmp_path / "cells.v2").mkdir()
    (tmp_path / "set.csv").touch()
    for name in ("cells.v2", "set.csv"):
        main(["train", str(tmp_path / name), "--minutes", "1"])
    assert runs == [Path("runs/cells.v2"), Path("runs/set")]


def test_predict_hands_on_what_was_said(api: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    argv = "predict run images -o out --probabilities --overlay --no-tta --memory 1GB --device cpu --overwrite"
    assert main(argv.split()) == 0
    (run, images, out), options = api["predict"][0]
    assert (run, images, out) == (Path("run"), "images", Path("out"))
    given = options["outputs"].model_dump(exclude_defaults=True)
    assert given == {"probabilities": True, "overlay": True, "overwrite": True}
    assert (options["tta"], options["memory"], options["device"]) == (False, 10**9, "cpu")
    assert capsys.readouterr().out == "out: the masks\n"
    assert main(["predict", "run", "images", "-o", "out"]) == 0
    assert api["predict"][1][1]["tta"] is None
    assert api["predict"][1][1]["post"] == {}


def test_predict_hands_on_what_is_written_and_what_becomes_of_areas(api: dict[str, Any]) -> None:
    argv = (
        "predict run a.zarr -o out --format .nrrd --polygons gpkg --measure parquet --intervals "
        "--keep-largest cell,edge --smallest cell=5,edge=20.5 --fill-holes all --objects components "
        "--axes CZYX --level 2"
    )
    assert main(argv.split()) == 0
    options = api["predict"][0][1]
    assert options["outputs"].model_dump(exclude_defaults=True) == {
        "format": ".nrrd", "polygons": "gpkg", "measurements": "parquet", "intervals": True,
    }  # fmt: skip
    assert options["post"] == {
        "keep_largest": ("cell", "edge"),
        "smallest": {"cell": 5.0, "edge": 20.5},
        "fill_holes": "all",
        "objects": "components",
    }
    assert (options["axes"], options["level"]) == ("CZYX", 2)
    assert "pixel_size" not in options
    assert main(["predict", "run", "a", "-o", "out", "--smallest", "7", "--keep-largest", "all"]) == 0
    assert api["predict"][1][1]["post"] == {"keep_largest": "all", "smallest": 7.0}
    assert api["predict"][1][1]["decode"] == "tuned"
    assert main(["predict", "run", "a", "-o", "out", "--neck", "0.3", "--decode", "argmax"]) == 0
    assert api["predict"][2][1]["post"] == {"neck": 0.3, "sure": 0.0}
    assert api["predict"][2][1]["decode"] == "argmax"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--smallest big", "--smallest big: must be a number, in the unit of the image's spacing, or pixels"),
        ("--fill-holes -3", "--fill-holes -3: must be 0 or more"),
        ("--level 1 --pixel-size 2", "--level and --pixel-size exclude each other; give one of them"),
        ("--level -1", "--level -1: must be 0 or more; 0 is the full resolution"),
        ("--pixel-size 0", "--pixel-size 0: must be above 0"),
    ],
)
def test_predict_refuses_sizes_that_are_none(
    words: str, says: str, api: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "run", "images", "-o", "out", *words.split()]) == 2
    assert says in capsys.readouterr().err


def test_predict_takes_a_pattern_that_the_shell_spelt_out(api: dict[str, Any], tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.png" for name in "ab"]
    for file in files:
        file.write_bytes(b"not looked into here")
    assert main(["predict", "run", *map(str, files), "-o", "out"]) == 0
    assert api["predict"][0][0][1] == files


def test_predict_names_the_images_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import unetkit.api

    found = Found(done=(Path("o/a.png"),), failed=(("b.png", "b.png: the file is truncated; copy it again"),))
    monkeypatch.setattr(unetkit.api, "predict", lambda *args, **options: found)
    assert main(["predict", "run", "i", "-o", "o"]) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "error: 1 of 2 images could not be predicted:\n  b.png: the file is truncated; copy it again\n"
    )
    assert captured.out == ""


def test_report_names_the_page(api: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "run"]) == 0
    assert capsys.readouterr().out == "run/report.html: open it in a browser\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DataError("cells: no pairs; name them alike"), "error: cells: no pairs; name them alike\n"),
        (RunError("run: is [bold]no run[/]"), "error: run: is [bold]no run[/]\n"),
        (
            PermissionError(13, "Permission denied", "run/plan.json"),
            "error: run/plan.json: Permission denied; the system refused it, so check the path and its permissions\n",
        ),
        (
            MemoryError(),
            "error: there is not enough memory; close other programs, or ask for less:"
            " --memory, --set sampling.batch=1\n",
        ),
    ],
)
def test_errors_of_the_verbs_are_one_message(
    error: BaseException, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import unetkit.api

    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(unetkit.api, "report", fail)
    assert main(["report", "run"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", message)


def test_our_own_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import unetkit.api

    def fail(run: Path) -> Path:
        raise ZeroDivisionError

    monkeypatch.setattr(unetkit.api, "report", fail)
    with pytest.raises(ZeroDivisionError):
        main(["report", "run"])


def test_ctrl_c_elsewhere_says_how_to_start_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import unetkit.api

    def interrupted(run: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(unetkit.api, "report", interrupted)
    assert main(["report", "run"]) == 130
    assert capsys.readouterr().err == "stopped; to start again:\n  unetkit report run\n"


def test_json_keeps_stdout_for_the_value(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import unetkit.api
    from unetkit.metrics.scores import Scores

    def verb(*args: Any, **options: Any) -> Scores:
        listen = options["listen"]
        listen(Started(task="evaluate", total=1))
        listen(Warned(message="truth: no prediction for b"))
        listen(Progress(task="evaluate", done=1, fraction=1.0))
        listen(Done(task="evaluate", message="1 image scored"))
        return Scores(("background", "cell"), (1,), ())

    monkeypatch.setattr(unetkit.api, "evaluate", verb)
    assert main(["evaluate", "p", "t", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["foreground"] == ["cell"]
    assert captured.err == "warning: truth: no prediction for b\n"
