"""What an implementation leaks at least: lower bounds on mu and epsilon from many of its runs.

An accountant says from above what a mechanism costs, provided that the code does what the mechanism
says. An audit says from below what the code leaks, provided nothing: it runs the code on two inputs
that differ in one protected unit, tells the two apart by a score, and turns the errors it makes
into a bound. A bound above the claim proves a fault; one below it is evidence, no proof.

    scores = scores_of(Neighbours(without=release, with_canary=other_release), runs=2000)
    mu_lower_bound(scores)                    # at most 1 / sigma for one noisy step
    epsilon_lower_bound(scores, delta=0.1)    # at most the accountant's epsilon at that delta

What is released is the caller's: a ``Release`` runs anything once and scores what came out, be it
a model's weights, a noisy count or a noisy sum. Two more figures are for runs whose outcome would
be noise alone: ``std_interval`` for how much of it there is, ``dependence_p_value`` for noise that
repeats, which no single outcome shows.

Sources: Jagielski, Ullman and Oprea 2020, "Auditing differentially private machine learning", for
epsilon; Nasr et al. 2023, "Tight auditing of differentially private machine learning", §4, for mu.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri
from scipy.stats import chi2
from scipy.stats import t as student_t

CONFIDENCE: Final = 0.999

# Runs by which the threshold is chosen: one in four. The others judge it.
_CHOOSING: Final = 4
_LEAST_RUNS: Final = 40

Array: TypeAlias = NDArray[np.float64]

Release: TypeAlias = Callable[[int], float]
"""Runs what is audited once, on the random stream of that number, and returns the score of what
came out: the higher, the more it looks as if the canary had been there. It may be infinite."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The audited code on two inputs that differ in one record, patient or whatever is protected.

    Attributes:
        without: runs it on the input without the canary.
        with_canary: runs it on the same input and the canary.
    """

    without: Release
    with_canary: Release


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of independent runs; numbers or infinities, at least 40 on each side.

    Attributes:
        without: shape (n,).
        with_canary: shape (m,).

    Raises:
        ValueError: too few runs, or a score that is no number.
    """

    without: Array
    with_canary: Array

    def __post_init__(self) -> None:
        for name, scores in (("without", self.without), ("with_canary", self.with_canary)):
            if scores.ndim != 1 or len(scores) < _LEAST_RUNS:
                raise ValueError(
                    f"{name}: scores of shape {scores.shape}, one for each of at least "
                    f"{_LEAST_RUNS} runs needed"
                )
            if np.isnan(scores).any():
                raise ValueError(f"{name}: {int(np.isnan(scores).sum())} scores are no number")


def scores_of(neighbours: Neighbours, *, runs: int) -> Scores:
    """Runs both sides ``runs`` times each, every run on a random stream of its own."""
    return Scores(
        np.array([neighbours.without(run) for run in range(runs)], np.float64),
        np.array([neighbours.with_canary(run) for run in range(runs, 2 * runs)], np.float64),
    )


def mu_lower_bound(scores: Scores, *, confidence: float = CONFIDENCE) -> float:
    """Returns a mu below which the audited code is not mu-GDP; 0 where the scores tell nothing.

    Were it mu-GDP, the bound would exceed mu in at most one audit of 1 / (1 - ``confidence``). A
    test with error rates a and b shows mu >= Phi^-1(1 - a) - Phi^-1(b) (Dong, Roth and Su 2022,
    definition 2.6; Nasr et al. 2023, §4.2); for both rates stand their Clopper-Pearson upper
    bounds. The test, a threshold and a side of it, is chosen on a quarter of the runs and judged on
    the others, so that it does not depend on what it is judged by.
    """
    return _judged(scores, _mu, confidence)


def epsilon_lower_bound(scores: Scores, *, delta: float, confidence: float = CONFIDENCE) -> float:
    """Returns an epsilon below which the audited code is not (epsilon, delta)-DP; 0 for no sign.

    It makes no assumption about the mechanism, and holds at ``confidence`` like the bound on mu. A
    test with error rates a and b shows epsilon >= log((1 - delta - b) / a), and the same with the
    rates exchanged (Kairouz, Oh and Viswanath 2015, theorem 2.1). Few runs see little of what is
    rare: a small delta makes the bound loose, so audit at one of a few hundredths.

    Raises:
        ValueError: delta does not lie in [0, 1).
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta {delta}: must lie in [0, 1)")

    def epsilon(false_positive: Array, false_negative: Array) -> Array:
        return np.maximum(
            _log_ratio(1 - delta - false_negative, false_positive),
            _log_ratio(1 - delta - false_positive, false_negative),
        )

    return _judged(scores, epsilon, confidence)


def std_interval(noise: Array, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Returns where the standard deviation of Gaussian noise of mean 0 lies, at this confidence.

    The values must be independent: see ``dependence_p_value``.

    >>> low, high = std_interval(np.array([1.0, -1.0] * 5000))
    >>> round(low, 2), round(high, 2)
    (0.98, 1.02)
    """
    squares, tail = float(np.square(noise).sum()), (1 - confidence) / 2
    return (
        float(np.sqrt(squares / chi2.isf(tail, noise.size))),
        float(np.sqrt(squares / chi2.ppf(tail, noise.size))),
    )


def dependence_p_value(series: Array) -> float:
    """Returns how likely so strong a correlation would be between independent Gaussian series.

    The strongest of all pairs counts, with Bonferroni's correction for their number. A series that
    never changes has no noise in it, and gives 0.

    Args:
        series: shape (n, k): n observations of k series, such as the noise of k coordinates, steps
            or successive runs.

    Raises:
        ValueError: fewer than three observations or two series.

    >>> noise = np.random.default_rng(1).normal(size=(1000, 2))
    >>> dependence_p_value(noise) > 0.01, dependence_p_value(noise[:, [0, 0]]) < 1e-9
    (True, True)
    """
    n, k = series.shape
    if n < 3 or k < 2:
        raise ValueError(f"series of shape {series.shape}: at least (3, 2) needed")
    if np.any(np.ptp(series, axis=0) == 0):
        return 0.0
    matrix = np.asarray(np.corrcoef(series, rowvar=False))
    correlations = matrix[np.triu_indices(k, 1)]
    strongest = float(np.abs(correlations).max())
    if strongest >= 1:
        return 0.0
    statistic = strongest * np.sqrt((n - 2) / (1 - strongest**2))
    return float(min(1.0, len(correlations) * 2 * student_t.sf(statistic, n - 2)))


def _judged(scores: Scores, bound: Callable[[Array, Array], Array], confidence: float) -> float:
    """Chooses the test with the largest bound on some runs, and returns its bound on the others.

    Both error rates are below their bounds at once with probability ``confidence``.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: must lie in (0, 1)")
    tail = (1 - confidence) / 2

    cut, other_cut = len(scores.without) // _CHOOSING, len(scores.with_canary) // _CHOOSING
    thresholds = _between(np.concatenate([scores.without[:cut], scores.with_canary[:other_cut]]))
    if not len(thresholds):
        return 0.0

    def bounds(without: Array, with_canary: Array, at: Array) -> Array:
        return bound(
            _rate_bound(_count_above(without, at), len(without), tail),
            _rate_bound(len(with_canary) - _count_above(with_canary, at), len(with_canary), tail),
        )

    # What lies below a threshold may give the canary away as well as what lies above.
    best = 0.0, 0.0
    for sign in (1.0, -1.0):
        without, with_canary, at = (
            sign * scores.without,
            sign * scores.with_canary,
            sign * thresholds,
        )
        chosen = bounds(without[:cut], with_canary[:other_cut], at)
        at = at[[np.argmax(chosen)]]
        best = max(
            best,
            (float(chosen.max()), float(bounds(without[cut:], with_canary[other_cut:], at)[0])),
        )
    return best[1]


def _between(values: Array) -> Array:
    """The middles between neighbouring values; none if all are equal."""
    ordered = np.nan_to_num(np.unique(values))  # infinities become the largest numbers
    middles: Array = ordered[:-1] / 2 + ordered[1:] / 2
    return middles


def _count_above(values: Array, thresholds: Array) -> NDArray[np.intp]:
    return np.asarray(len(values) - np.searchsorted(np.sort(values), thresholds, "right"), np.intp)


def _rate_bound(count: NDArray[np.intp], n: int, tail: float) -> Array:
    """An upper bound of a rate seen ``count`` times in ``n``, too low with probability ``tail``.

    Clopper and Pearson 1934, "The use of confidence or fiducial limits".
    """
    with_room = np.minimum(count, n - 1)  # all of n bound nothing, and the beta is not defined
    return np.where(count < n, betaincinv(with_room + 1, n - with_room, 1 - tail), 1.0)


def _mu(false_positive: Array, false_negative: Array) -> Array:
    # A rate bounded by 1 alone says nothing; its quantile would be infinite.
    known = (false_positive < 1) & (false_negative < 1)
    a, b = np.where(known, false_positive, 0.5), np.where(known, false_negative, 0.5)
    return np.where(known, -ndtri(a) - ndtri(b), 0.0)


def _log_ratio(numerator: Array, denominator: Array) -> Array:
    positive = np.where(numerator > 0, numerator, denominator)
    return np.asarray(np.log(positive / denominator), np.float64)
