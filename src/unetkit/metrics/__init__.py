"""Arrays in, numbers out: overlap, boundaries, membranes, and means with intervals."""

from unetkit.metrics.boundary import boundary_f1
from unetkit.metrics.calibration import (
    ConfidenceCounts,
    ConfidenceScores,
    average_precision,
    confidence_scores,
    roc_auc,
)
from unetkit.metrics.instances import ObjectScores, aji, object_scores, seg
from unetkit.metrics.membrane import (
    MembraneScores,
    SegmentScores,
    membrane_scores,
    segment_scores,
    segments_between,
)
from unetkit.metrics.overlap import confusion, dice, iou, precision, recall, region_confusions
from unetkit.metrics.scores import METRICS, CaseScores, Scores
from unetkit.metrics.scoring import score_case
from unetkit.metrics.skeleton import cldice
from unetkit.metrics.summary import Summary, summarise
from unetkit.metrics.surface import SurfaceScores, surface_scores
from unetkit.metrics.waves import WaveScores, wave_scores

__all__ = [
    "METRICS",
    "CaseScores",
    "ConfidenceCounts",
    "ConfidenceScores",
    "MembraneScores",
    "ObjectScores",
    "Scores",
    "SegmentScores",
    "Summary",
    "SurfaceScores",
    "WaveScores",
    "aji",
    "average_precision",
    "boundary_f1",
    "cldice",
    "confidence_scores",
    "confusion",
    "dice",
    "iou",
    "membrane_scores",
    "object_scores",
    "precision",
    "recall",
    "region_confusions",
    "roc_auc",
    "score_case",
    "seg",
    "segment_scores",
    "segments_between",
    "summarise",
    "surface_scores",
    "wave_scores",
]
