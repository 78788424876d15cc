"""A hospital's own figures of a model, exact, for its own eyes: they never leave it.

    report = report_of(invitation, scores=scores, table=held_out, now=now)
    report.whole.auc
    LocalReport.model_validate_json(report.model_dump_json()) == report

What a hospital releases are ten noised counts a class under the secure sum (`fl.evaluation`). What
it keeps here are its own figures without noise, and counts fine enough to draw from; no row and no
single score is kept.
"""

from __future__ import annotations

import math
from datetime import datetime
from statistics import NormalDist
from typing import Annotated, Final, Literal, Self
from uuid import UUID

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from fl.errors import ModelError
from fl.evaluation.delong import auc_and_variance
from fl.evaluation.histogram import checked_scores
from fl.invitation import Digest, RoundInvitation
from fl.spec import ModelName, Purpose
from fl.subgroups import Subgroup
from fl.table import Table

FINE_BINS: Final = 100
"""Bins of equal width over scores from 0 to 1; the last one holds 1 itself."""

THRESHOLD: Final = 0.5
"""Least score called positive."""

_EDGES: Final[NDArray[np.float64]] = np.arange(FINE_BINS + 1) / FINE_BINS
_Z: Final = NormalDist().inv_cdf(0.975)

_Count = Annotated[int, Field(ge=0)]
_Counts = Annotated[tuple[_Count, ...], Field(min_length=FINE_BINS, max_length=FINE_BINS)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class OwnFigures(_Frozen):
    """Exact figures of some of a hospital's held-out records; None where they define none.

    Attributes:
        negatives: records of the negative class in each of 100 bins of the score.
        positives: records of the positive class in each.
        auc: area under the ROC curve, ties at half; None unless both classes are present.
        auc_low: lower end of its interval at 95 %; None where too few records give none.
        auc_high: upper end.
        accuracy: share of records on the right side of the threshold.
        sensitivity: share of positives found.
        specificity: share of negatives cleared.
        brier: mean square of the score less the label.
        mean_score: mean of the scores: the share of positives that the model expects.
    """

    negatives: _Counts
    positives: _Counts
    auc: _Share | None = None
    auc_low: _Share | None = None
    auc_high: _Share | None = None
    accuracy: _Share | None = None
    sensitivity: _Share | None = None
    specificity: _Share | None = None
    brier: _Share | None = None
    mean_score: _Share | None = None

    @property
    def of_negatives(self) -> int:
        """Records of the negative class."""
        return sum(self.negatives)

    @property
    def of_positives(self) -> int:
        """Records of the positive class."""
        return sum(self.positives)

    @property
    def records(self) -> int:
        """All records."""
        return self.of_negatives + self.of_positives

    def at(self, threshold: float) -> OwnFigures:
        """Returns the figures at another threshold, from 0 to 1; bins are not cut.

        A threshold between two hundredths acts as the next one above it.
        """
        if threshold == THRESHOLD:
            return self
        first = int(np.searchsorted(_EDGES, threshold))
        cleared, found = sum(self.negatives[:first]), sum(self.positives[first:])
        shares = {
            "accuracy": (cleared + found, self.records),
            "sensitivity": (found, self.of_positives),
            "specificity": (cleared, self.of_negatives),
        }
        return self.model_copy(
            update={name: part / of if of else None for name, (part, of) in shares.items()}
        )


class OwnGroup(_Frozen):
    """The figures of one group of one subgroup."""

    subgroup: str
    group: str
    figures: OwnFigures


class LocalReport(_Frozen):
    """What a hospital keeps of the closing evaluation of a training.

    Attributes:
        version: of this format.
        training_id: the training.
        model: its model's name.
        purpose: what the model is for.
        weights: SHA-256 of the evaluated weights.
        evaluated_at: when.
        label: the diagnosis column.
        classes: how its negative and its positive class are written.
        whole: all held-out records.
        groups: each group of each subgroup of the data contract.
    """

    version: Literal[1] = 1
    training_id: UUID
    model: ModelName
    purpose: Purpose
    weights: Digest
    evaluated_at: AwareDatetime
    label: str
    classes: tuple[str, str]
    whole: OwnFigures
    groups: tuple[OwnGroup, ...] = ()

    @model_validator(mode="after")
    def _no_group_is_larger_than_the_whole(self) -> Self:
        if any(group.figures.records > self.whole.records for group in self.groups):
            raise ValueError("groups: one has more records than the whole")
        return self


def report_of(
    invitation: RoundInvitation, *, scores: ArrayLike, table: Table, now: datetime
) -> LocalReport:
    """Returns the figures of the weights that a round evaluates.

    Args:
        invitation: to the round.
        scores: probabilities of the positive class, shape (n,).
        table: the n records that were scored.
        now: the time of the record.

    Raises:
        ModelError: see ``figures_of``; the message holds no value.
    """
    contract = invitation.model.contract
    s, y = checked_scores(scores, table.labels)
    return LocalReport(
        training_id=invitation.training_id,
        model=invitation.model.name,
        purpose=invitation.purpose,
        weights=invitation.weights,
        evaluated_at=now,
        label=contract.label.name,
        classes=(contract.label.negative, contract.label.positive),
        whole=figures_of(s, y),
        groups=_groups(s, y, groups=table.groups, subgroups=contract.subgroups),
    )


def figures_of(scores: ArrayLike, labels: ArrayLike) -> OwnFigures:
    """Computes exact figures.

    Args:
        scores: probabilities of the positive class, shape (n,), from 0 to 1; n may be 0.
        labels: 0 or 1, shape (n,).

    Raises:
        ModelError: shapes that differ, a score outside 0 to 1, or a label other than 0 and 1.
    """
    s, y = checked_scores(scores, labels)
    negative, positive = s[y == 0], s[y == 1]
    auc, interval = _auc(negative, positive)
    right = (s >= THRESHOLD) == (y == 1)
    return OwnFigures(
        negatives=_binned(negative),
        positives=_binned(positive),
        auc=auc,
        auc_low=interval[0] if interval else None,
        auc_high=interval[1] if interval else None,
        accuracy=_mean(right),
        sensitivity=_mean(positive >= THRESHOLD),
        specificity=_mean(negative < THRESHOLD),
        brier=_mean((s - y) ** 2),
        mean_score=_mean(s),
    )


def _groups(
    scores: NDArray[np.float64],
    labels: NDArray[np.float64],
    *,
    groups: NDArray[np.int8] | None,
    subgroups: tuple[Subgroup, ...],
) -> tuple[OwnGroup, ...]:
    if not subgroups:
        return ()
    expected = (len(scores), len(subgroups))
    if groups is None or groups.shape != expected:
        raise ModelError(f"groups: the table has none of shape {expected}")
    return tuple(
        OwnGroup(
            subgroup=subgroup.name,
            group=name,
            figures=figures_of(scores[groups[:, at] == g], labels[groups[:, at] == g]),
        )
        for at, subgroup in enumerate(subgroups)
        for g, name in enumerate(subgroup.labels)
    )


def _auc(
    negative: NDArray[np.float64], positive: NDArray[np.float64]
) -> tuple[float | None, tuple[float, float] | None]:
    """The AUC and its interval at 95 %.

    The interval is DeLong's, laid on the logit, which keeps it within 0 to 1 (Pepe 2003, section
    5.2). It needs two records of each class and an AUC other than 0 and 1.
    """
    if len(negative) == 0 or len(positive) == 0:
        return None, None
    auc, variance = auc_and_variance(negative, positive)
    if not variance or not 0 < auc < 1:
        return auc, None
    logit, half = math.log(auc / (1 - auc)), _Z * math.sqrt(variance) / (auc * (1 - auc))
    return auc, (_logistic(logit - half), _logistic(logit + half))


def _logistic(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def _binned(scores: NDArray[np.float64]) -> tuple[int, ...]:
    bins = np.searchsorted(_EDGES[1:-1], scores, side="right")
    return tuple(int(count) for count in np.bincount(bins, minlength=FINE_BINS))


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
