"""Evaluating a round: figures of the weights it started from, out of the summed histograms."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prefect import task
from prefect.cache_policies import NO_CACHE

from fl.evaluation import (
    Evaluation,
    Interval,
    PrecisionRecallCurve,
    RocCurve,
    ScoreHistogram,
    SubgroupFigures,
    auc_interval,
    precision_recall_curve,
    roc_curve,
    subgroup_figures,
)
from fl.evaluation import evaluate as evaluate_histogram
from fl.evaluation.counts import decode, subgroups_of
from fl.evaluation.subgroups import COMPARED
from fl.integer_noise import count_noise_std
from fl.invitation import RoundInvitation
from fl.operating_point import OperatingPoint
from fl.secure_round import PUBLIC_WEIGHT
from tasks.cohort import OpenedRound
from tasks.gather import GatheredSum

_NO_METRIC_NAME: Final = re.compile(r"[^\w.\- /]", re.ASCII)
"""What MLflow allows in no name of a metric."""

_HEADLINE: Final = ("auc", "auc_low", "auc_high", "accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEvaluation:
    """What a round measured on all hospitals' held-out rows together.

    Attributes:
        histogram: the nearest to the noised counts.
        figures: of all rows.
        interval: the AUC's 95 % confidence interval; None where there is no AUC.
        subgroups: figures of groups, side by side; in a closing evaluation.
        noise_std: standard deviation of the noise on each count of the sum.
    """

    histogram: ScoreHistogram
    figures: Evaluation
    interval: Interval | None = None
    subgroups: tuple[SubgroupFigures, ...] = ()
    noise_std: float = 0.0

    @property
    def roc(self) -> RocCurve | None:
        """The ROC curve; None without both classes."""
        return None if self.figures.auc is None else roc_curve(self.histogram)

    @property
    def precision_recall(self) -> PrecisionRecallCurve | None:
        """The precision-recall curve; None without positives."""
        return precision_recall_curve(self.histogram) if self.figures.positives else None

    def metrics(self) -> dict[str, float]:
        """Returns the figures that are defined, by name, for MLflow and the database."""
        metrics = self.figures.metrics()
        if self.interval is not None:
            metrics |= {"auc_low": self.interval.low, "auc_high": self.interval.high}
        metrics["held_out"] = float(self.figures.records)
        names = _metric_names([subgroup.name for subgroup in self.subgroups])
        for name, subgroup in zip(names, self.subgroups, strict=True):
            for figure in COMPARED:
                if (gap := subgroup.gap(figure)) is not None:
                    metrics[f"gap_{figure}_{name}"] = gap
        return metrics

    def by_group(self) -> dict[str, dict[str, float]]:
        """Returns the figures of each group that has enough records, by ``subgroup: group``."""
        return {
            f"{subgroup.name}: {group.label}": group.figures.metrics()
            for subgroup in self.subgroups
            for group in subgroup.groups
            if group.figures is not None
        }


def headline(metrics: Mapping[str, float]) -> str:
    """Returns the figures that a line of text has room for."""
    return ", ".join(f"{name} {metrics[name]:.3f}" for name in _HEADLINE if name in metrics)


@task(name="evaluate", cache_policy=NO_CACHE, persist_result=False)
def evaluate(opened: OpenedRound, gathered: GatheredSum) -> RoundEvaluation | None:
    """Computes a round's figures from the summed score histograms; None if it did not evaluate.

    The counts carry noise: the figures are those of the nearest histogram. What the held-out rows
    do not define, such as an AUC without both classes, is left out.
    """
    invitation = opened.invitation
    if not invitation.evaluate:
        return None
    return evaluation_of(invitation, gathered)


def evaluation_of(invitation: RoundInvitation, gathered: GatheredSum) -> RoundEvaluation:
    """Returns the figures of a round that evaluated.

    Raises:
        ModelError: counts that are not this round's.
    """
    subgroups = subgroups_of(invitation.model.contract, invitation.kind)
    counts = decode(gathered.counts, subgroups=subgroups)
    hospitals = gathered.weight // PUBLIC_WEIGHT
    own_std = count_noise_std(invitation.plan, subgroups=len(subgroups))
    noise_std = own_std * math.sqrt(hospitals)
    histogram = ScoreHistogram.from_noised(counts.overall)
    figures = evaluate_histogram(histogram, operating_point=invitation.model.operating_point)
    # One threshold for everybody, also where it follows from a least sensitivity.
    point = OperatingPoint(threshold=figures.threshold)
    return RoundEvaluation(
        histogram=histogram,
        figures=figures,
        interval=auc_interval(counts.overall, noise_std=noise_std),
        subgroups=tuple(
            subgroup_figures(subgroup, of_groups, noise_std=noise_std, operating_point=point)
            for subgroup, of_groups in zip(subgroups, counts.groups, strict=True)
        ),
        noise_std=noise_std,
    )


def _metric_names(names: list[str]) -> list[str]:
    """Names as MLflow takes them; where two become one, all of those are numbered."""
    taken = [_NO_METRIC_NAME.sub("_", name) for name in names]
    often = Counter(taken)
    return [
        name if often[name] == 1 else f"{name}_{place}" for place, name in enumerate(taken, start=1)
    ]
