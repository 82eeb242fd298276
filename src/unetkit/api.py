"""The verbs. Each takes paths and plain values, and returns what it made; `listen` is handed every event on the way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unetkit.core.device import find_device
from unetkit.core.errors import DataError, PlanError
from unetkit.core.events import Event, Progress, drain
from unetkit.core.interrupt import stop_on_signal
from unetkit.core.machine import processor
from unetkit.data.doctor.examine import Diagnosis, examine
from unetkit.data.find.discover import discover
from unetkit.data.find.sample import Sample
from unetkit.data.prepared.prepare import CaseReader
from unetkit.evaluate.folders import EvaluateOptions, evaluate_folders
from unetkit.evaluate.suspects import Suspects
from unetkit.job.importing import Imported, ImportRequest, refuse_report
from unetkit.job.importing import import_weights as importing
from unetkit.job.scoring import scoring, scoring_samples
from unetkit.job.sheet import draw_sheet
from unetkit.job.suspects import of_cases, read_suspects
from unetkit.job.training import planning, training
from unetkit.job.understand import DataSource
from unetkit.metrics.scores import Scores
from unetkit.nets.reduced import prune as pruned
from unetkit.plan.make import Planned
from unetkit.plan.own import code_of
from unetkit.plan.parts import PostPlan
from unetkit.plan.plan import Plan, Request
from unetkit.predict.decoding import Decoding
from unetkit.predict.load import PLAN, load_model, load_plan, options_of, with_tuned
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.post import cleaned_array, plain_scores
from unetkit.predict.predictor import Predictor
from unetkit.predict.run import PredictResult
from unetkit.predict.run import predict as predicting
from unetkit.predict.tuned import Tuned
from unetkit.report.card import write_model_card
from unetkit.report.notebook import notebook_listener
from unetkit.report.page import write_report

Listen = Callable[[Event], Any]
PathLike = str | Path
Data = str | Path | Sequence[Sample]
"""A folder of images and masks, a CSV, or samples in memory."""


def check(data: Data, request: Request | None = None, *, listen: Listen | None = None) -> Diagnosis:
    """Examine a folder of images and masks (or a CSV, or a list of `Sample`). Nothing is changed.

    Raises DataError: no such folder, or no pairs of image and mask in it.
    """
    request = request or Request()
    tell = listen or notebook_listener()

    def progress(done: int, total: int) -> None:
        if tell is not None:
            tell(Progress(task="check", done=done, fraction=done / total))

    return examine(
        discover(data, request.reading),
        names=request.classes,
        ignore=request.ignore,
        background=request.background,
        progress=progress,
    )


def suspects(run: PathLike, data: Data | None = None, request: Request | None = None) -> Suspects:
    """Areas that are likely labelled wrong, the most suspicious first: where the networks of a run confidently
    contradict the masks of cases that they did not learn from. `data`: only those of these data.

    Raises RunError: no such list in the run, or none of the data is in it; DataError as `check`.
    """
    found = read_suspects(Path(run))
    if data is None:
        return found
    ids = {case.id for case in discover(data, (request or Request()).reading).cases}
    return of_cases(found, ids, Path(run))


def plan(
    data: Data, request: Request | None = None, *, minutes: float | None = None, listen: Listen | None = None
) -> Planned:
    """Decide how to train on `data`, and why; takes a few seconds of timed steps. Nothing is trained.

    Raises DataError, PlanError, MachineError as `train`.
    """
    return drain(planning(_data(data), _request(request, minutes, None)), listen or notebook_listener())


def augment(
    data: Data,
    out: PathLike,
    request: Request | None = None,
    *,
    rows: int = 4,
    columns: int = 5,
    listen: Listen | None = None,
) -> Path:
    """Draw what training will see into the PNG file `out`, and return its path: patches of `rows` training cases, each
    as it is and as `columns` samples of it that were changed at random. Nothing is trained.

    Raises DataError, PlanError, MachineError as `train`; PlanError: no PNG, an impossible number.
    """
    work = draw_sheet(_data(data), Path(out), request or Request(), rows, columns)
    return drain(work, listen or notebook_listener())


@dataclass(frozen=True)
class Run:
    """A run folder: what `train` made, or was making."""

    path: Path
    finished: bool = True
    trust: bool = False
    """Whether code of the user's own that the network names may be imported."""

    @property
    def plan(self) -> Plan:
        """All decisions, with their reasons."""
        return load_plan(self.path)

    def model(self) -> Model:
        """The network with its best weights, the legend, and how images are prepared."""
        return self._loaded[0]

    def predict(self, image: np.ndarray, *, probabilities: bool = False, tta: bool | None = None) -> np.ndarray:
        """Predict one image in memory, in the units that it was trained on: (*space), (*space, C) or (C, *space), where
        space is (H, W) of an image, (X, Y, Z) of a volume, (X,) of a signal.

        Returns the mask in the legend's own values, (*space), or (3, *space) for colours, (classes, *space) where each
        class has a mask of its own; of instances the number of the object that each pixel belongs to, uint32, 0 where
        there is none; or with `probabilities` float32 (classes, *space). For many images or files,
        `unetkit.predict` is quicker. Raises DataError: not such an image.
        """
        model, plan = self._loaded
        options = _options(plan, model, tta=tta)
        if options.tta not in self._predictors:
            self._predictors[options.tta] = Predictor(model.nets, options, regions=model.legend.regions)
        predictor = self._predictors[options.tta]
        with CaseReader(np.asarray(image), model.prepare, ndim=plan.net.ndim) as reader:
            result = predictor.whole(reader, probabilities)
            if probabilities:
                return plain_scores(result.astype(np.float32, copy=False), model.legend)
            label_X, ids_X = cleaned_array(result.astype(np.uint8), model.legend, model.post, reader.info)
        return model.legend.plain.decode(label_X) if ids_X is None else ids_X

    @cached_property
    def _loaded(self) -> tuple[Model, Plan]:
        return load_model(self.path, trust=self.trust)

    @cached_property
    def _predictors(self) -> dict[bool, Predictor]:
        return {}


def train(
    data: Data,
    run: PathLike,
    request: Request | None = None,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    start: PathLike | None = None,
    unlabelled: PathLike | None = None,
    listen: Listen | None = None,
) -> Run:
    """Train on a folder of images and masks (or a CSV, or a list of `Sample`) into the folder `run`; the same call goes
    on with an interrupted run.

    Without `minutes` or `steps`, training stops when validation has settled. Everything else is in `request`. Ctrl-C
    finishes the step, saves, and returns a Run that is not `finished`. `start`: a run whose network and weights
    training begins with (fine-tuning; other channels and classes are allowed). `unlabelled`: images without masks that
    teach as well: a folder of them, or `data` itself (or "samples"), which means those in it that have no mask.

    Raises DataError (what is wrong with the data), PlanError (a setting), RunError (the folder holds something else, or
    the data or the request changed since), MachineError (disk, memory, device).
    """
    request = _request(request, minutes, steps, start, unlabelled)
    with stop_on_signal() as stopped:
        finished = drain(training(_data(data), Path(run), request, stopped), listen or notebook_listener())
    return Run(Path(run), finished, trust=request.trust or bool(code_of(request)))


def open_run(run: PathLike, *, trust: bool = False) -> Run:
    """A run folder that exists already. `trust`: code of your own that its network names (`module:name`) may be run.

    Raises RunError where it is none.
    """
    load_plan(Path(run))
    return Run(Path(run), trust=trust)


def predict(
    run: PathLike,
    images: PathLike | Sequence[Path],
    out: PathLike,
    *,
    outputs: OutputOptions | None = None,
    post: Mapping[str, Any] | None = None,
    axes: str | None = None,
    level: int | None = None,
    pixel_size: float | None = None,
    tta: bool | None = None,
    decode: Literal["tuned", "argmax"] = "tuned",
    calibrated: bool = True,
    memory: int | None = None,
    device: str = "auto",
    adapt: str = "none",
    prune: int = 0,
    fold: int | None = None,
    trust: bool = False,
    listen: Listen | None = None,
) -> PredictResult:
    """Write a mask for every image (a file, a folder, a pattern, or a list) into the folder `out`.

    `outputs`: what is written beside the masks, and in which format. `post`: fields of the plan's `predict.post` that
    are changed: `{"smallest": 20}`. `axes`, `level`, `pixel_size`: how files are read, where it is not as in training.
    `tta`: average flips and turns (None: as the plan says). `decode`: labels are decided as held-out predictions taught
    ("tuned"), or by the largest score, areas and objects as planned ("argmax"). `calibrated`: False: probabilities as
    the network gives them, and labels by the largest. `memory`: bytes the process may hold. A bad image among good ones
    is named in the result; what was done before is skipped, what was interrupted goes on. Images that a person should
    look at are named in the result as well, and in `review.csv`.
    `adapt`: to a new scanner or stain, from these images alone: "norm" or "entropy" (see `unetkit.predict.adapt`).
    `prune`: use only so many columns of a nested network (U-Net++), which is faster; 0: all. `fold`: of a run in folds
    only the network of this one; None: all of them, averaged. `trust` as in `open_run`.

    Raises PlanError: a class or a size in `post` that there is not, a fold that there is not.
    """
    model, plan = load_model(Path(run), trust=trust, fold=fold)
    if not calibrated:  # what decides labels was learnt from calibrated probabilities
        model = with_tuned(model, plan, Tuned(familiar=model.tuned.familiar))
    if decode == "argmax":
        model = replace(model, post=plan.predict.post, tuned=model.tuned.model_copy(update={"decoding": Decoding()}))
    if prune:
        net, *others = (pruned(net, prune) for net in model.nets)
        model = replace(model, net=net, others=tuple(others))
    if post:
        model = replace(model, post=_post(model, post))
    sources = images if isinstance(images, str | Path) else list(images)
    sized = level is not None or pixel_size is not None
    reading = {
        "axes": axes or plan.request.axes,
        "level": level if sized else plan.request.level,
        "pixel_size": pixel_size if sized else plan.request.pixel_size,
    }
    given = {name: value for name, value in reading.items() if value is not None} | {"adapt": adapt}
    options = PredictOptions.parse(_options(plan, model, tta, memory, device).model_dump() | given, "the options")
    return drain(predicting(model, sources, Path(out), options, outputs), listen or notebook_listener())


def evaluate(
    prediction: PathLike,
    truth: Data,
    request: Request | None = None,
    *,
    membrane: str | None = None,
    metrics: Sequence[str] | None = None,
    out: PathLike | None = None,
    trust: bool = False,
    listen: Listen | None = None,
) -> Scores:
    """Score masks against the truth: `prediction` is a run folder (its model predicts the images of `truth` first) or a
    folder of masks; `truth` a data folder or a folder of masks, paired by name. A run also takes a list of `Sample`.

    `out`: where the predictions of a run are kept (None: nowhere). `membrane`: the class that
    divides the image into cells: scored as the ISBI 2012 challenge does (V_rand, V_info). `metrics`: names of
    `unetkit.metrics.scores.MORE` (distances of surfaces, clDice …), or ("all",); None: what is usual. `trust` as in
    `open_run`.
    Raises DataError: nothing pairs, sizes differ, samples where files are needed; RunError.
    """
    prediction, listen = Path(prediction), listen or notebook_listener()
    request = request or Request()
    options = EvaluateOptions(
        names=request.classes,
        ignore=request.ignore,
        background=request.background,
        membrane=membrane,
        metrics=None if metrics is None else tuple(metrics),
        reading=request.reading,
    )
    if (prediction / PLAN).is_file():
        model, plan = load_model(prediction, trust=trust)
        if not isinstance(truth, str | Path):
            return drain(scoring_samples(model, truth, _options(plan, model), options), listen)
        kept = None if out is None else Path(out)
        return drain(scoring(model, Path(truth), _options(plan, model), options, kept), listen)
    if not isinstance(truth, str | Path):
        raise DataError(f"{prediction}: is no run folder; only a run is scored on samples in memory")
    return evaluate_folders(prediction, Path(truth), options, listen)


def report(run: PathLike) -> Path:
    """Write `report.html` and the model card of a run from its records, and return the page's path.

    Raises RunError: no such run, or one of imported weights, of which there is nothing to report.
    """
    refuse_report(Path(run))
    write_model_card(Path(run))
    return write_report(Path(run))


def import_weights(
    checkpoint: PathLike,
    model: str,
    run: PathLike,
    *,
    classes: Sequence[str] | None = None,
    channels: int | None = None,
    ndim: int | None = None,
    settings: Mapping[str, Any] | None = None,
    partial: bool = False,
) -> Imported:
    """Make a run folder of weights from elsewhere: a safetensors file, or what `torch.save(net.state_dict())` wrote.

    `model`: the named network that they are of; `settings` change its fields (`{"net.channels": [64, 128]}`) or how
    images are prepared (`prepare.…`). None: as the checkpoint tells. Tensors are matched by name, then by order and
    shape; the result says what matched. With `partial`, what found nothing stays as drawn.

    Raises RunError (the file is no checkpoint, or would run code; the folder holds something), PlanError, SpecError,
    and UnfilledError, a RunError, where a part of the network found nothing.
    """
    values = {"model": model, "classes": classes, "channels": channels, "ndim": ndim, "partial": partial}
    request = ImportRequest.parse(values | {"settings": dict(settings or {})}, "the import")
    return importing(Path(checkpoint), Path(run), request)


def training_events(
    data: Data, run: PathLike, request: Request, stopped: Callable[[], bool] = lambda: False
) -> Generator[Event, None, bool]:
    """`train` as a generator of events, for interfaces of your own; its result says whether the run is finished."""
    return training(_data(data), Path(run), request, stopped)


def _request(
    request: Request | None,
    minutes: float | None,
    steps: int | None,
    start: PathLike | None = None,
    unlabelled: PathLike | None = None,
) -> Request:
    paths = {"start": start, "unlabelled": unlabelled}
    values = {"minutes": minutes, "steps": steps} | {k: None if v is None else str(v) for k, v in paths.items()}
    given = {name: value for name, value in values.items() if value is not None}
    request = request or Request()
    not_written = {"trust": request.trust, "store": request.store}
    return Request.parse({**request.model_dump(), **not_written, **given}, "train")


def _options(
    plan: Plan, model: Model, tta: bool | None = None, memory: int | None = None, device: str = "auto"
) -> PredictOptions:
    # on the processor where it was chosen, precision is as it was trained; elsewhere a short trial chooses
    known = plan.machine.device == find_device(device) and plan.machine.processor == processor()
    trial: dict[str, Any] = {} if known else {"precision": "auto", "layout": "auto"}
    return PredictOptions(**options_of(plan, tta, model).model_dump() | {"memory": memory, "device": device} | trial)


def _post(model: Model, changes: Mapping[str, Any]) -> PostPlan:
    """What becomes of predicted areas: as planned or tuned, with what the user changed."""
    post = PostPlan.parse(model.post.model_dump() | dict(changes), "the options")
    try:
        post.check(model.legend)
    except ValueError as error:
        raise PlanError(f"the options: {error}") from None
    return post


def _data(data: Data) -> DataSource:
    return Path(data) if isinstance(data, str | Path) else data
