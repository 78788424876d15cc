"""A public test set: a file that the coordinator holds, held to the data contract, and scored.

    python -m fl.public_test FILE < contract.json   # the broken rules, as JSON

    evaluate_public(spec, weights, data).metrics    # {"auc": 0.98, "auc_low": 0.96, …}

Its rows are public because somebody has declared them so: figures on it are exact, without noise,
and cost no privacy. PyTorch is imported only to score.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fl.contract import DataContract
from fl.data import load_table
from fl.errors import ContractViolation
from fl.evaluation import RocCurve
from fl.evaluation.delong import auc_and_variance
from fl.spec import ModelSpec
from fl.table import Table
from fl.weights import Weights

# How files begin that are no CSV, and what their names end in.
_SUFFIXES: Final = ((b"PAR1", ".parquet"), (b"PK\x03\x04", ".npz"))
_CALIBRATION_BINS: Final = 10
_DEVIATIONS: Final = 1.959963984540054  # of a normal variable, to either side: 95 %


@dataclass(frozen=True, slots=True, eq=False)
class PublicEvaluation:
    """What a model is worth on a public test set.

    Attributes:
        metrics: figures that are defined, by name.
        roc: the curve; None without both classes.
        problem: why there are no figures; empty if there are.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    roc: RocCurve | None = None
    problem: str = ""


def read_public(data: bytes, contract: DataContract) -> Table:
    """Reads a public test set: CSV, Parquet or npz, told apart by how it begins.

    Raises:
        ContractViolation: every broken rule, by column, rule and count.
    """
    suffix = next((s for begin, s in _SUFFIXES if data.startswith(begin)), ".csv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"public{suffix}"
        path.write_bytes(data)
        return load_table(path, contract)


def evaluate_public(spec: ModelSpec, weights: Weights, data: bytes) -> PublicEvaluation:
    """Scores a public test set.

    Raises:
        ContractViolation: the file does not fit the contract.
        ModelError: weights that do not fit the architecture, or scores that are not numbers.
    """
    from fl.serving import predictor_of

    table = read_public(data, spec.contract)
    scores = predictor_of(spec, weights).scores(table.features)
    return exact_figures(scores, table.labels > 0, threshold=spec.operating_point.cut)


def evaluate_public_export(directory: Path, data: bytes) -> PublicEvaluation:
    """Scores a public test set with a model that `fl.serving.export_model` wrote.

    Raises:
        ContractViolation: the file does not fit the model's contract.
        ModelError: the directory holds no model of this project.
    """
    from fl.serving import load_predictor

    predictor = load_predictor(directory)
    table = read_public(data, predictor.spec.contract)
    scores = predictor.scores(table.features)
    return exact_figures(scores, table.labels > 0, threshold=predictor.spec.operating_point.cut)


def exact_figures(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], *, threshold: float
) -> PublicEvaluation:
    """Computes figures of scores, without bins but for the calibration error.

    The interval of the AUC is DeLong's (DeLong et al. 1988, by the ranks of Sun and Xu 2014) at
    95 %; ``ece`` is the expected calibration error over ten bins of equal width (Naeini et al.
    2015), ``brier`` the mean squared error of the scores.

    Args:
        scores: float64, shape (n,), from 0 to 1.
        positive: bool, shape (n,): the records of the positive class.
        threshold: least score called positive.
    """
    if not scores.size:
        return PublicEvaluation()
    called = scores >= threshold
    figures = {
        "accuracy": float(np.mean(called == positive)),
        "ece": _calibration_error(scores, positive),
        "brier": float(np.mean((scores - positive) ** 2)),
        "records": float(scores.size),
        "positives": float(np.count_nonzero(positive)),
    }
    if positive.any():
        figures["sensitivity"] = float(np.mean(called[positive]))
    if not positive.all():
        figures["specificity"] = float(np.mean(~called[~positive]))
    if not positive.any() or positive.all():
        return PublicEvaluation(figures)
    return PublicEvaluation({**_auc(scores, positive), **figures}, _curve(scores, positive))


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> dict[str, float]:
    """The AUC and its interval; of a class of one record there is no variance and no interval."""
    auc, variance = auc_and_variance(scores[~positive], scores[positive])
    if variance is None:
        return {"auc": auc}
    reach = _DEVIATIONS * float(np.sqrt(variance))
    return {"auc": auc, "auc_low": max(0.0, auc - reach), "auc_high": min(1.0, auc + reach)}


def _curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> RocCurve:
    from sklearn.metrics import roc_curve

    fpr, tpr, thresholds = roc_curve(positive, scores)
    return RocCurve(fpr=fpr, tpr=tpr, thresholds=np.minimum(thresholds, 1.0))


def _calibration_error(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    bins = np.minimum((scores * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=scores - positive, minlength=_CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / scores.size)


def _broken_rules(path: Path, contract: DataContract) -> list[tuple[str, str, int]]:
    try:
        read_public(path.read_bytes(), contract)
    except ContractViolation as error:
        return [(v.column, v.rule, v.count) for v in error.violations]
    return []


def main(arguments: list[str], contract: str) -> str:
    """Returns what the program prints: the broken rules, ``[[column, rule, count], …]``."""
    (path,) = arguments
    found: Any = _broken_rules(Path(path), DataContract.model_validate_json(contract))
    return json.dumps(found)


if __name__ == "__main__":
    print(main(sys.argv[1:], sys.stdin.read()))
