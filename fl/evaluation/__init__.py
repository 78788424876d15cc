"""How good a model is, from counts of scores that hospitals can add up.

    histogram = score_histogram(scores, labels) + score_histogram(other_scores, other_labels)
    evaluate(histogram).auc
    auc_interval(noised_counts, noise_std=6)

``histogram`` counts; ``figures`` has all figures, out of ``curves``, ``operating`` and
``calibration``; ``intervals`` says how sure the AUC is; ``subgroups`` compares groups; ``counts``
says which counts a round releases (``docs/evaluation.md``).
"""

from fl.evaluation.curves import (
    PrecisionRecallCurve,
    RocCurve,
    precision_recall_curve,
    roc_curve,
)
from fl.evaluation.figures import Evaluation, evaluate
from fl.evaluation.histogram import BINS, EDGES, MIDDLES, ScoreHistogram, score_histogram
from fl.evaluation.intervals import Interval, auc_interval
from fl.evaluation.subgroups import GroupFigures, SubgroupFigures, subgroup_figures

__all__ = [
    "BINS",
    "EDGES",
    "MIDDLES",
    "Evaluation",
    "GroupFigures",
    "Interval",
    "PrecisionRecallCurve",
    "RocCurve",
    "ScoreHistogram",
    "SubgroupFigures",
    "auc_interval",
    "evaluate",
    "precision_recall_curve",
    "roc_curve",
    "score_histogram",
    "subgroup_figures",
]
