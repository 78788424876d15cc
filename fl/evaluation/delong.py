"""The AUC of scores that are known one by one, and its variance by sampling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def auc_and_variance(
    negative: NDArray[np.floating], positive: NDArray[np.floating]
) -> tuple[float, float | None]:
    """Returns the AUC, ties at half, and its variance; None with fewer than two of a class.

    The variance is that of DeLong et al. (1988), computed by midranks (Sun and Xu 2014).

    Args:
        negative: scores of the negative class, at least one.
        positive: scores of the positive class, at least one.
    """
    n, p = len(negative), len(positive)
    ranks = _midranks(np.concatenate([negative, positive]))
    below = (ranks[n:] - _midranks(positive)) / n
    above = 1 - (ranks[:n] - _midranks(negative)) / p
    auc = min(max(float(below.mean()), 0.0), 1.0)
    if n < 2 or p < 2:
        return auc, None
    return auc, float(below.var(ddof=1) / p + above.var(ddof=1) / n)


def _midranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((2 * last - counts + 1) / 2)[places]
    return ranks
