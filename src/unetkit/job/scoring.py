"""`evaluate RUN DATA`: the model predicts the images of a data set as users predict, and the masks are scored."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

from unetkit.core.events import Event
from unetkit.data.discover import discover
from unetkit.evaluate.folders import EvaluateOptions, evaluate
from unetkit.metrics.scores import Scores
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.run import predict


def scoring(
    model: Model, truth: Path, predicting: PredictOptions, options: EvaluateOptions, out: Path | None = None
) -> Generator[Event, None, Scores]:
    """Predict every labelled image of `truth` into `out` (None: a folder that is removed afterwards), then score.

    Raises what `discover`, `predict` and `evaluate` raise.
    """
    with tempfile.TemporaryDirectory(prefix="unetkit-") as temporary:
        folder = Path(temporary) if out is None else out
        outputs = OutputOptions(probabilities=options.membrane is not None, overwrite=True)
        yield from predict(model, discover(truth).cases, folder, predicting, outputs)
        return (yield from evaluate(folder, truth, options.model_copy(update={"legend": model.legend})))
