"""`unetkit predict`: which images, which files are written of them, and what becomes of small areas and holes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from unetkit.cli.flags import FILES, Files, Quiet, RunFolder, Trust, missing, start_terminal, whole
from unetkit.core.errors import PlanError

_WRITTEN = Group("Which files are written", sort_key=1)
_AFTER = Group("What becomes of areas and objects (else as planned)", sort_key=2)
Flat = Parameter(name="*")


@dataclass(frozen=True, kw_only=True)
class Written:
    """Which files are written beside the masks, and in which format."""

    format: Annotated[
        str | None,
        Parameter(group=_WRITTEN, metavar="SUFFIX", help="Of masks, such as .nrrd, .ome.tif, .zarr, .dcm; else kept."),
    ] = None
    probabilities: Annotated[
        bool, Parameter(group=_WRITTEN, help="Also probabilities/NAME, one channel per class.")
    ] = False
    overlay: Annotated[
        bool, Parameter(group=_WRITTEN, help="Also overlays/NAME.png: the image, its mask in colour.")
    ] = False
    polygons: Annotated[
        Literal["geojson", "gpkg"] | None,
        Parameter(group=_WRITTEN, help="Also polygons/NAME: outlines, in the map's coordinates or in pixels."),
    ] = None
    measure: Annotated[
        Literal["csv", "parquet"] | None,
        Parameter(group=_WRITTEN, help="Also measurements/NAME: size, place, shape and intensity of each object."),
    ] = None
    intervals: Annotated[
        bool, Parameter(group=_WRITTEN, help="Of signals also intervals/NAME.csv: onset, offset, class.")
    ] = False
    review: Annotated[
        bool,
        Parameter(
            group=_WRITTEN,
            negative="--no-review",
            help="review.csv: the Dice to be expected of each image, and which to look at.",
        ),
    ] = True
    overwrite: Annotated[bool, Parameter(group=_WRITTEN, help="Predict again what is there already.")] = False

    def values(self) -> dict[str, Any]:
        """As fields of OutputOptions."""
        names = ("format", "probabilities", "overlay", "polygons", "intervals", "review", "overwrite")
        return {name: getattr(self, name) for name in names} | {"measurements": self.measure}


@dataclass(frozen=True, kw_only=True)
class After:
    """What becomes of the areas of a predicted mask."""

    keep_largest: Annotated[
        str | None,
        Parameter(group=_AFTER, metavar="A,B|all", help="Of these classes only the largest connected area stays."),
    ] = None
    smallest: Annotated[
        str | None,
        Parameter(group=_AFTER, metavar="SIZE", help="Areas below it go, in mm³, µm² …; or for classes: A=5,B=20."),
    ] = None
    fill_holes: Annotated[
        str | None, Parameter(group=_AFTER, metavar="SIZE|all", help="Holes up to this size are filled.")
    ] = None
    objects: Annotated[
        Literal["none", "components", "watershed"] | None,
        Parameter(group=_AFTER, help="What gets a number of its own: connected areas, or objects that touch, as well."),
    ] = None
    neck: Annotated[
        float | None,
        Parameter(group=_AFTER, metavar="SHARE", help="Objects part where they are narrower by this share; 1: never."),
    ] = None

    def values(self) -> dict[str, Any]:
        """As fields of PostPlan: those that are given. Raises PlanError: a size that is no number."""
        given: dict[str, Any] = {}
        if self.keep_largest is not None:
            names = tuple(name.strip() for name in self.keep_largest.split(","))
            given["keep_largest"] = "all" if names == ("all",) else names
        if self.smallest is not None:
            pairs = [part.partition("=") for part in self.smallest.split(",")]
            if len(pairs) == 1 and not pairs[0][1]:
                given["smallest"] = _size("--smallest", self.smallest)
            else:
                given["smallest"] = {name.strip(): _size("--smallest", size) for name, _, size in pairs}
        if self.fill_holes is not None:
            given["fill_holes"] = "all" if self.fill_holes == "all" else _size("--fill-holes", self.fill_holes)
        if self.neck is not None:
            given |= {"neck": self.neck, "sure": 0.0}
        return given | ({} if self.objects is None else {"objects": self.objects})


def predict(
    run: RunFolder,
    /,
    *images: Annotated[str, Parameter(name="IMAGES", help="image files, a folder of them, or a quoted pattern")],
    out: Annotated[Path, Parameter(name=["--out", "-o"], metavar="FOLDER", help="folder for the masks")],
    written: Annotated[Written, Flat] = Written(),
    after: Annotated[After, Flat] = After(),
    files: Annotated[Files, Flat] = FILES,
    tta: Annotated[
        bool | None,
        Parameter(negative="--no-tta", help="Average eight flips and turns: slower, steadier; else as planned."),
    ] = None,
    decode: Annotated[
        Literal["tuned", "argmax"],
        Parameter(help="Labels as held-out predictions taught, or by the largest score and the plan alone."),
    ] = "tuned",
    uncalibrated: Annotated[
        bool, Parameter(help="Probabilities as the network gives them, and labels by the largest of them.")
    ] = False,
    memory: Annotated[
        str | None,
        Parameter(metavar="SIZE", help="Most memory to use, such as 1GB; tiles are made to fit. Else a quarter of it."),
    ] = None,
    device: Annotated[str, Parameter(metavar="NAME", help="cpu, cuda, cuda:1, mps; else the fastest here.")] = "auto",
    adapt: Annotated[
        Literal["none", "norm", "entropy"],
        Parameter(help="To a new scanner or stain, from these images together: batch statistics, or entropy as well."),
    ] = "none",
    prune: Annotated[
        int,
        Parameter(metavar="N", converter=whole, help="Use N columns of a nested network (unetpp): faster, less exact."),
    ] = 0,
    fold: Annotated[
        int | None,
        Parameter(metavar="K", converter=whole, help="Of a run in folds one network alone; else all, averaged."),
    ] = None,
    trust: Trust = False,
    quiet: Quiet = False,
) -> int:
    """See the help of the command."""
    if not images:
        example = "unetkit predict run images/ -o masks"
        raise missing("predict", "IMAGES", "image files, a folder of them, or a quoted pattern", example)
    limit = None
    if memory is not None:
        from unetkit.core.machine import parse_memory

        limit = parse_memory(memory)
    with start_terminal(quiet) as terminal:
        terminal.doing("loading the model")
        from unetkit import api
        from unetkit.data.find.discover import images_of
        from unetkit.predict.options import OutputOptions

        # a shell may have spelt out a pattern
        sources = images[0] if len(images) == 1 else [path for name in images for path in images_of(name)]
        found = api.predict(
            run,
            sources,
            out,
            outputs=OutputOptions.parse(written.values(), "the options"),
            post=after.values(),
            tta=tta,
            decode=decode,
            calibrated=not uncalibrated,
            memory=limit,
            device=device,
            adapt=adapt,
            prune=prune,
            fold=fold,
            trust=trust,
            listen=terminal,
            **files.values(),
        )
    if found.failed:
        messages = "".join(f"\n  {message}" for _, message in found.failed)
        total = len(found.done) + len(found.skipped) + len(found.failed)
        terminal.problem(f"error: {len(found.failed)} of {total} images could not be predicted:{messages}")
        return 1
    terminal.result(f"{out}: the masks")
    return 0


def _size(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise PlanError(f"{flag} {text}: must be a number, in the unit of the image's spacing, or pixels") from None
    if not 0 <= value < float("inf"):
        raise PlanError(f"{flag} {text}: must be 0 or more")
    return value
