"""The commands. Each says what it takes, hands it to the api, and shows what came back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from unetkit import __version__
from unetkit.cli import augmenting, importing, models, predicting
from unetkit.cli.flags import (
    BUDGET,
    CHOICES,
    FILES,
    MASKS,
    Budget,
    Choices,
    Files,
    Json,
    Masks,
    Quiet,
    RunFolder,
    Trust,
    make_request,
    missing,
    start_terminal,
    whole,
)
from unetkit.cli.output import print_json
from unetkit.core.errors import PlanError

# The commands in the order of the work, each with its shortest useful line.
EXAMPLES = {
    "sample": "unetkit sample demo",
    "check": "unetkit check cells/",
    "plan": "unetkit plan cells/ --minutes 6",
    "augment": "unetkit augment cells/ -o sheet.png",
    "train": "unetkit train cells/ -o run --minutes 6",
    "predict": "unetkit predict run images/ -o masks",
    "evaluate": "unetkit evaluate run held-out/",
    "report": "unetkit report run",
    "import": "unetkit import weights.pt --model unet -o run",
    "models": "unetkit models",
}

app = App(
    name="unetkit",
    usage="Usage: unetkit COMMAND ...     (unetkit COMMAND --help says more)",
    help="A folder of images and masks becomes a segmentation model you can trust.",
    help_epilogue="In the order of the work:\n\n"
    + "\n".join(f"  {line}" for line in EXAMPLES.values())
    + "\n\nExit status: 0 done; 1 errors in the data, or images that failed; 2 something\n"
    "to mend; 130 stopped by Ctrl-C.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative="", show_default=False),
)

# Where `plan` writes unless told otherwise; a file that is there may have been edited, and is kept.
PLAN_FILE = Path("plan.yaml")
# Where `train` puts the run of a data set unless told otherwise.
RUNS = Path("runs")

Data = Annotated[Path, Parameter(help="a folder of images and masks, or a CSV; most layouts are understood")]
Flat = Parameter(name="*")


def _example(*lines: str) -> str:
    return "\n".join([f"Example{'s' * (len(lines) > 1)}:", "", *(f"  {line}" for line in lines)])


@app.command(
    sort_key=1,
    usage="Usage: unetkit sample FOLDER [OPTIONS]",
    help="Write synthetic images with masks, to try everything on.\n\n"
    "In train/ those to learn from, in test/ those held out.",
    help_epilogue=_example("unetkit sample demo", "unetkit train demo/train -o run --minutes 2"),
)
def sample(
    folder: Annotated[Path, Parameter(help="folder for the images; new or empty")],
    /,
    *,
    count: Annotated[int, Parameter(metavar="N", converter=whole, help="Number of images; 24 unless given.")] = 24,
    seed: Annotated[int, Parameter(metavar="N", converter=whole, help="Another seed: other images.")] = 0,
    quiet: Quiet = False,
) -> int:
    """See the help above."""
    if folder.is_dir() and any(folder.iterdir()):
        raise PlanError(f"{folder}: holds files already; nothing was written; name a new or empty folder")
    with start_terminal(quiet) as terminal:
        terminal.doing("drawing")
        from unetkit.data.samples import write_samples

        written = write_samples(folder, count, seed=seed)
    terminal.result(f"{folder}: {len(written)} synthetic images with masks, in train and test")
    terminal.hint(f"next: unetkit train {folder / 'train'} -o run --minutes 2")
    return 0


@app.command(
    sort_key=2,
    usage="Usage: unetkit check DATA [OPTIONS]",
    help="Examine images and masks: what is wrong, how to mend it.\n\n"
    "Nothing is changed. Exit status 1: something would stop training.",
    help_epilogue=_example(
        "unetkit check cells/", "unetkit check cells/ --json > findings.json", "unetkit check cells/ --run run"
    ),
)
def check(
    data: Data,
    /,
    *,
    run: Annotated[
        Path | None,
        Parameter(metavar="RUN", help="Also likely label errors: where this run, trained on DATA, doubts the masks."),
    ] = None,
    masks: Annotated[Masks, Flat] = MASKS,
    files: Annotated[Files, Flat] = FILES,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """See the help above."""
    request = make_request(masks, files)
    with start_terminal(quiet, json) as terminal:
        terminal.doing("examining the data")
        from unetkit import api
        from unetkit.cli.findings import diagnosis_json, show_diagnosis
        from unetkit.cli.suspects import show_suspects, suspects_json

        doubted = None if run is None else api.suspects(run, data, request)
        diagnosis = api.check(data, request, listen=terminal)
    if json:
        more = {} if doubted is None else {"suspects": suspects_json(doubted)}
        print_json(diagnosis_json(data, diagnosis) | more)
        return int(diagnosis.stops)
    show_diagnosis(terminal.console, data, diagnosis)
    if run is not None and doubted is not None:
        show_suspects(terminal.console, run, doubted)
    return int(diagnosis.stops)


@app.command(
    sort_key=3,
    usage="Usage: unetkit plan DATA [OPTIONS]",
    help="Decide how to train, and say why.\n\nTakes some seconds of timed steps; nothing is trained.",
    help_epilogue=_example(
        "unetkit plan cells/ --minutes 6",
        "unetkit plan cells/ --minutes 6 --set sampling.batch=8 -o plan.yaml",
        "unetkit plan --fields",
    ),
)
def plan(
    data: Annotated[Path | None, Parameter(help="a folder of images and masks, or a CSV")] = None,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            name=["--out", "-o"],
            metavar="FILE",
            help="File for the plan, .yaml or .json; plan.yaml unless that exists.",
        ),
    ] = None,
    list_fields: Annotated[
        bool, Parameter(name="--fields", help="List every field that can be set, and stop; needs no DATA.")
    ] = False,
    list_losses: Annotated[
        bool, Parameter(name="--losses", help="List the losses for loss.terms, and stop; needs no DATA.")
    ] = False,
    budget: Annotated[Budget, Flat] = BUDGET,
    masks: Annotated[Masks, Flat] = MASKS,
    files: Annotated[Files, Flat] = FILES,
    choices: Annotated[Choices, Flat] = CHOICES,
) -> int:
    """See the help above."""
    if list_fields:
        from unetkit.cli.fields import settable_fields
        from unetkit.cli.lines import fields_table

        with start_terminal() as terminal:
            terminal.console.print(fields_table(settable_fields()))
        return 0
    if list_losses:
        with start_terminal() as terminal:
            terminal.doing("loading")
            from unetkit.cli.losses import losses_table

            terminal.console.print(losses_table())
        return 0
    if data is None:
        raise missing("plan", "DATA", "a folder of images and masks, or a CSV", EXAMPLES["plan"])
    if out is not None and out.suffix.lower() not in (".json", ".yaml", ".yml"):
        raise PlanError(f"-o {out}: a plan is a .yaml or .json file; for example -o {out.stem or 'plan'}.yaml")
    request = make_request(budget, masks, files, choices)
    with start_terminal() as terminal:
        terminal.doing("examining the data")
        from unetkit import api

        planned = api.plan(data, request, listen=terminal)
    target = PLAN_FILE if out is None else out
    if out is None and target.exists():
        terminal.hint(f"{target} exists and is kept as it is; -o FILE writes this plan")
        return 0
    _write_plan(target, planned.plan.model_dump(mode="json"))
    terminal.result(
        f"{target}: the plan; `unetkit train {data} -o run --settings {target}` takes it as it stands there"
    )
    return 0


app.command(
    augmenting.augment,
    sort_key=3.5,
    usage="Usage: unetkit augment DATA -o SHEET.png [OPTIONS]",
    help="Draw what training will see: patches, and how they are changed at random.\n\n"
    "Understands and plans as `train` does; nothing is trained. Each row is a training case: a patch with its label, "
    "then the same place as training may see it. Above stands which changes are on, and how strong.",
    help_epilogue=_example(
        EXAMPLES["augment"], "unetkit augment cells/ -o sheet.png --rows 6 --seed 1 --set augment.rotate=15"
    ),
)


@app.command(
    sort_key=4,
    usage="Usage: unetkit train DATA [-o RUN] [OPTIONS]",
    help="Train a model, or go on with a run.\n\n"
    "Ctrl-C saves and stops; the same command goes on. RUN holds the weights, the plan with its reasons, the scores "
    "and report.html; unless named, it is runs/NAME for a folder NAME.",
    help_epilogue=_example(
        "unetkit train cells/ -o run --minutes 6",
        "unetkit train cells/ -o run --steps 2000 --seed 1 --precision fp32",
    ),
)
def train(
    data: Data,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(name=["--out", "-o"], metavar="RUN", help="The run folder: new, or one to go on with; runs/NAME."),
    ] = None,
    budget: Annotated[Budget, Flat] = BUDGET,
    masks: Annotated[Masks, Flat] = MASKS,
    files: Annotated[Files, Flat] = FILES,
    choices: Annotated[Choices, Flat] = CHOICES,
    quiet: Quiet = False,
) -> int:
    """See the help above."""
    request = make_request(budget, masks, files, choices)
    if out is None:
        out = RUNS / (data.resolve().stem if data.is_file() else data.resolve().name)
    with start_terminal(quiet) as terminal:
        terminal.doing("examining the data")
        from unetkit import api
        from unetkit.cli.interrupt import stoppable
        from unetkit.core.events import drain

        with stoppable(terminal) as stopped:
            finished = drain(api.training_events(data, out, request, stopped), terminal)
    if not finished:
        return 130
    terminal.result(f"{out / 'report.html'}: open it in a browser")
    terminal.hint(f"next: unetkit predict {out} IMAGES -o masks")
    return 0


app.command(
    predicting.predict,
    sort_key=5,
    usage="Usage: unetkit predict RUN IMAGES... -o FOLDER [OPTIONS]",
    help="Write a mask for every image.\n\n"
    "Masks have the values or colours of those that were learnt from, the name of their image, its size and its place: "
    "volumes lie where their image does, maps on the same pixels of the Earth, signals come back as CSV and marks. "
    "What is there already is skipped; what was interrupted goes on. Exit status 1: some images could not be "
    "predicted.",
    help_epilogue=_example(
        EXAMPLES["predict"],
        "unetkit predict run slide.tif -o masks --memory 1GB --probabilities --overlay",
        "unetkit predict run city.tif -o masks --polygons gpkg --smallest 10",
        "unetkit predict run scan/ -o masks --format .nrrd --keep-largest all --measure csv",
    ),
)


@app.command(
    sort_key=6,
    usage="Usage: unetkit evaluate MASKS_OR_RUN TRUTH [OPTIONS]",
    help="Score masks, or those that a run predicts, against the truth.\n\n"
    "Pairs by name. Means come with 95 % intervals (bootstrap over images, or groups where they are known).",
    help_epilogue=_example(
        "unetkit evaluate run held-out/",
        "unetkit evaluate masks/ truth/ -o scores",
        "unetkit evaluate masks/ truth/ --json",
    ),
)
def evaluate(
    prediction: Annotated[Path, Parameter(name="MASKS_OR_RUN", help="a folder of masks, or a run folder")],
    truth: Annotated[Path, Parameter(help="a folder of true masks, or of images and masks")],
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            name=["--out", "-o"], metavar="FOLDER", help="Folder for scores.csv, scores.json and a run's predictions."
        ),
    ] = None,
    membrane: Annotated[
        str | None, Parameter(metavar="CLASS", help="Class to score as ISBI 2012 does as well: V_rand and V_info.")
    ] = None,
    metrics: Annotated[
        str | None,
        Parameter(
            metavar="NAMES",
            help="Metrics beside the usual ones: hd95, assd, surface_dice, hausdorff, cldice …, or all.",
        ),
    ] = None,
    masks: Annotated[Masks, Flat] = MASKS,
    files: Annotated[Files, Flat] = FILES,
    json: Json = False,
    trust: Trust = False,
    quiet: Quiet = False,
) -> int:
    """See the help above."""
    request = make_request(masks, files)
    more = None if metrics is None else tuple(name.strip() for name in metrics.split(","))
    with start_terminal(quiet, json) as terminal:
        terminal.doing("loading")
        from unetkit import api
        from unetkit.cli.scores import show_scores

        scores = api.evaluate(
            prediction, truth, request, membrane=membrane, metrics=more, out=out, trust=trust, listen=terminal
        )
    written = () if out is None else scores.write(out)
    if json:
        print_json(scores.as_json())
        return 0
    show_scores(terminal.console, scores)
    if out is None:
        terminal.hint("no file was written; -o FOLDER writes scores.csv and scores.json")
    for path in written:
        terminal.result(f"{path}: the scores")
    return 0


@app.command(
    sort_key=7,
    usage="Usage: unetkit report RUN",
    help="Write report.html of a run again, from its records.",
    help_epilogue=_example(EXAMPLES["report"]),
)
def report(run: RunFolder, /, *, quiet: Quiet = False) -> int:
    """See the help above."""
    with start_terminal(quiet) as terminal:
        terminal.doing("writing the report")
        from unetkit import api

        page = api.report(run)
    terminal.result(f"{page}: open it in a browser")
    return 0


app.command(
    importing.import_checkpoint,
    name="import",
    sort_key=9,
    usage="Usage: unetkit import CHECKPOINT --model NAME -o RUN [OPTIONS]",
    help="Make a run of weights from elsewhere.\n\n"
    "Tensors are matched by name, then by order and shape; what matched is shown, and what did not. Files that would "
    "run code are refused. Exit status 1: a part of the network found nothing; nothing was written.",
    help_epilogue=_example(
        EXAMPLES["import"],
        "unetkit import best.safetensors --model unet --classes background,cell -o run",
        "unetkit train cells/ -o new --start run --minutes 6",
    ),
)

app.command(models.app)


def _write_plan(path: Path, values: dict[str, Any]) -> None:
    from unetkit.core.files import write_json, write_text

    if path.suffix.lower() == ".json":
        write_json(path, values)
    else:
        import yaml

        write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))
