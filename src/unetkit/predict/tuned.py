"""tuned.json: what was learnt from held-out predictions after training, and is applied when the model is used."""

from __future__ import annotations

from pathlib import Path

from unetkit.core.config import Config
from unetkit.core.files import read_json, write_json
from unetkit.predict.calibration import Calibration
from unetkit.predict.decoding import Decoding
from unetkit.predict.familiar import Familiar
from unetkit.predict.quality import Quality

TUNED = "tuned.json"


class Tuned(Config):
    """What held-out predictions taught. The defaults change nothing."""

    decoding: Decoding = Decoding()
    calibration: Calibration = Calibration()
    quality: Quality | None = None
    """What Dice a prediction without truth probably has; none: it is not known."""
    familiar: Familiar | None = None
    """What training images look like; none: it is not known."""

    def save(self, run: Path) -> None:
        """Write tuned.json into a run folder, whole or not at all. Raises MachineError."""
        write_json(run / TUNED, self.model_dump(mode="json"))

    @classmethod
    def load(cls, run: Path) -> Tuned:
        """Read it; what is neutral where there is none. Raises RunError (damaged), PlanError (an unknown field)."""
        path = run / TUNED
        return cls.parse(read_json(path, "what was tuned"), str(path)) if path.is_file() else cls()
