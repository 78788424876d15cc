"""The coordinator's part in finding the features' centre and spread, from the hospitals' sums.

    config = measuring(stage, plan, weights)                  # what the hospitals are told
    weights = absorbed(stage, plan, weights, mean, …)         # what their mean makes of the weights

All of it works on what the noised sum has released, and costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fl.names import CENTRE, RECORDS, SPREAD
from fl.stages import COUNT_SHARE, KINDS, LEARNING_RATE, RADIUS, STAGE, Stage
from fl.weights import Weights
from privacy.plan import PrivacyPlan

RECORDS_UNIT: Final = 65_536

# Before anything is counted. More records are not lost: sums of some ten times as many still fit
# the quantiser's range, and the next round knows better.
_FIRST_GUESS: Final = 8192
_FEWEST: Final = 64

# A feature of less spread than this share of the mean one is mostly noise, or rare.
_LEAST_SPREAD: Final = 0.3
_DEVIATIONS: Final = 1.5

# The mean absolute deviation of a Gaussian is this share of its standard deviation.
_GAUSSIAN: Final = math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the coordinator knows of a round's sum.

    Attributes:
        hospitals: whose updates are in it.
        learning_rate: as they were told.
    """

    hospitals: int
    learning_rate: float


def records_in(weights: Weights) -> float | None:
    """Returns how many records a training has counted so far, None before it has."""
    counted = float(weights[RECORDS][0]) * RECORDS_UNIT if RECORDS in weights else 0.0
    return counted or None


def measuring(stage: Stage, plan: PrivacyPlan, weights: Weights) -> dict[str, float]:
    """Returns what the hospitals are told in a round that measures.

    The learning rate makes the sums about 2 at most, within the quantiser's range, even if one
    hospital has all records.
    """
    records = max(records_in(weights) or _FIRST_GUESS, _FEWEST)
    return {
        STAGE: float(KINDS.index(stage.kind)),
        RADIUS: stage.radius,
        LEARNING_RATE: 2 * plan.expected_batch_size / (records * plan.clip_norm),
    }


def absorbed(
    stage: Stage,
    plan: PrivacyPlan,
    weights: Weights,
    mean: Mapping[str, NDArray[np.floating]],
    *,
    measured: Measured,
    steps: NDArray[np.float64],
) -> Weights:
    """Returns the weights after a round that measured.

    Args:
        stage: the round's stage.
        plan: the privacy plan.
        weights: the incoming weights.
        mean: the hospitals' mean change, by the weights' names.
        measured: of whose sum it is.
        steps: how far apart the values of each feature that takes but two are, 0 for the others;
            shape (d,).
    """
    radius = stage.radius * math.sqrt(len(weights[CENTRE]))
    scale = measured.hospitals * plan.expected_batch_size / measured.learning_rate
    scale *= radius / plan.clip_norm
    noise = _noise_of_a_sum(plan, measured.hospitals) * radius
    records = _counted(
        weights,
        found=float(mean[RECORDS][0]) * scale / (COUNT_SHARE * radius),
        deviation=noise / (COUNT_SHARE * radius),
        before=stage.place if stage.kind == "centre" else None,
    )
    changed = {RECORDS: np.array([records / RECORDS_UNIT], np.float32)}
    if stage.kind == "centre":
        centre = weights[CENTRE] + mean[CENTRE] * scale / records
        changed[CENTRE] = centre.astype(np.float32)
    else:
        found: NDArray[np.floating] = mean[SPREAD] * scale / records
        before = weights[SPREAD] if stage.place else np.zeros_like(found)
        deviations: NDArray[np.floating] = before + (found - before) / (stage.place + 1)
        if stage.place + 1 == stage.rounds:
            deviations = _spread(
                deviations, noise=noise / records / math.sqrt(stage.rounds), steps=steps
            )
        changed[SPREAD] = deviations.astype(np.float32)
    return {**weights, **changed}


def _counted(weights: Weights, *, found: float, deviation: float, before: int | None) -> float:
    """The mean of the counts of the rounds that sought the centre; later ones add little."""
    known = records_in(weights)
    if before is None and known is not None:
        return known
    mean = found if not before or known is None else known + (found - known) / (before + 1)
    return max(mean, deviation, 1.0)


def _noise_of_a_sum(plan: PrivacyPlan, hospitals: int) -> float:
    """Deviation of the noise in the sum, in units of what a record may contribute."""
    one = plan.noise_multiplier / math.sqrt(plan.steps_per_round)
    return one * math.sqrt(hospitals / plan.noise_shares)


def _spread(
    deviations: NDArray[np.floating], *, noise: float, steps: NDArray[np.float64]
) -> NDArray[np.floating]:
    """Returns standard deviations from noisy mean absolute ones.

    They are drawn towards their mean by how much of what tells them apart is noise (James and Stein
    1961), and bounded below. A feature of two values a step s apart, the one with probability p,
    deviates by 2sp(1 - p) in the mean and by s sqrt(p(1 - p)) as a standard deviation.
    """
    mean = max(float(deviations.mean()), noise / math.sqrt(len(deviations)), 1e-6)
    between = max(float(deviations.var()) - noise**2, 0.0)
    kept = between / (between + noise**2) if between else 0.0
    drawn = kept * deviations + (1 - kept) * mean
    least = max(_LEAST_SPREAD * mean, min(_DEVIATIONS * noise, mean))
    bounded = np.maximum(drawn, least)
    spread: NDArray[np.floating] = np.where(
        steps > 0, np.sqrt(bounded * steps / 2), bounded / _GAUSSIAN
    )
    return spread
