"""Show a run: `report.html` (one file, no network) and the model card `README.md`, from the files of the run folder.

Nothing here trains, predicts or scores: the report says what the run recorded, and says which records are absent.
"""

from unetkit.report.card import write_model_card
from unetkit.report.page import write_report

__all__ = ["write_model_card", "write_report"]
