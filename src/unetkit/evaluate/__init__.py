"""Scores of predicted masks against the truth."""

from unetkit.evaluate.folders import EvaluateOptions, evaluate, evaluate_folders
from unetkit.metrics import METRICS, CaseScores, Scores, score_case

__all__ = ["METRICS", "CaseScores", "EvaluateOptions", "Scores", "evaluate", "evaluate_folders", "score_case"]
