"""Arrays in, numbers out: overlap, boundaries, membranes, and means with intervals."""

from unetkit.metrics.boundary import boundary_f1
from unetkit.metrics.instances import ObjectScores, object_scores
from unetkit.metrics.membrane import (
    MembraneScores,
    SegmentScores,
    membrane_scores,
    segment_scores,
    segments_between,
)
from unetkit.metrics.overlap import confusion, dice, iou, precision, recall, region_confusions
from unetkit.metrics.scores import METRICS, CaseScores, Scores, score_case
from unetkit.metrics.summary import Summary, summarise

__all__ = [
    "METRICS",
    "CaseScores",
    "MembraneScores",
    "ObjectScores",
    "Scores",
    "SegmentScores",
    "Summary",
    "boundary_f1",
    "confusion",
    "dice",
    "iou",
    "membrane_scores",
    "object_scores",
    "precision",
    "recall",
    "region_confusions",
    "score_case",
    "segment_scores",
    "segments_between",
    "summarise",
]
