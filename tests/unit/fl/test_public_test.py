"""A public test set: read like a hospital's file, scored without noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sklearn_metrics

from fl.architectures import initial_weights
from fl.contract import DataContract
from fl.errors import ContractViolation
from fl.public_test import (
    evaluate_public,
    evaluate_public_export,
    exact_figures,
    main,
    read_public,
)
from fl.serving import export_model, predictor_of
from fl.spec import ModelSpec

CONTRACT = DataContract.model_validate(
    {
        "columns": [{"name": "radius", "minimum": 0, "maximum": 30}],
        "label": {"name": "malignant", "negative": "no", "positive": "yes"},
    }
)
SPEC = ModelSpec.model_validate(
    {"name": "m", "architecture": {"kind": "mlp", "hidden": [4]}, "contract": CONTRACT}
)
ROWS = b"radius,malignant\n5,no\n25,yes\n16,no\n20,yes\n"

cases = st.integers(4, 60).flatmap(
    lambda n: st.tuples(
        arrays.arrays(float, n, elements=st.sampled_from(np.linspace(0, 1, 21).tolist())),
        arrays.arrays(bool, n),
    )
)


@given(case=cases)
def test_figures_are_scikit_learn_s(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positive = case
    found = exact_figures(scores, positive, threshold=0.5)
    assert found.metrics["accuracy"] == pytest.approx(
        sklearn_metrics.accuracy_score(positive, scores >= 0.5)
    )
    assert found.metrics["brier"] == pytest.approx(np.mean((scores - positive) ** 2))
    assert 0 <= found.metrics["ece"] <= 1
    if positive.any() and not positive.all():
        auc = sklearn_metrics.roc_auc_score(positive, scores)
        assert found.metrics["auc"] == pytest.approx(auc)
        assert found.roc is not None
        assert np.trapezoid(found.roc.tpr, found.roc.fpr) == pytest.approx(auc)
        low, high = found.metrics.get("auc_low", 0), found.metrics.get("auc_high", 1)
        assert 0 <= low <= found.metrics["auc"] + 1e-12
        assert found.metrics["auc"] - 1e-12 <= high <= 1
    else:
        assert found.roc is None
        assert "auc" not in found.metrics


def test_the_interval_holds_the_truth_nineteen_times_of_twenty() -> None:
    generator = np.random.default_rng(3)
    positive = np.arange(300) < 100
    truth, held = 0.7602, 0  # of two normal variables one deviation apart: Φ(1 / √2)
    for _ in range(400):
        scores = generator.normal(positive.astype(float))
        figures = exact_figures(1 / (1 + np.exp(-scores)), positive, threshold=0.5).metrics
        held += figures["auc_low"] <= truth <= figures["auc_high"]
    assert 0.92 <= held / 400 <= 0.98


def test_scores_that_are_their_own_chances_are_calibrated() -> None:
    scores, positive = np.repeat([0.25, 0.75], 4), np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    assert exact_figures(scores, positive, threshold=0.5).metrics["ece"] == pytest.approx(0)
    assert exact_figures(1 - scores, positive, threshold=0.5).metrics["ece"] == pytest.approx(0.5)


def test_of_no_records_there_are_no_figures() -> None:
    assert exact_figures(np.zeros(0), np.zeros(0, bool), threshold=0.5).metrics == {}


def test_weights_and_their_export_get_the_same_figures(tmp_path: Path) -> None:
    weights = initial_weights(SPEC, seed=4)
    export_model(tmp_path, SPEC, weights)
    found = evaluate_public(SPEC, weights, ROWS)
    assert found.metrics == evaluate_public_export(tmp_path, ROWS).metrics
    table = read_public(ROWS, CONTRACT)
    scores = predictor_of(SPEC, weights).scores(table.features)
    auc = sklearn_metrics.roc_auc_score(table.labels, scores)
    assert found.metrics["auc"] == pytest.approx(auc)
    assert (found.metrics["records"], found.metrics["positives"]) == (4, 2)


def test_rows_outside_the_contract_are_refused_by_rule_and_count() -> None:
    with pytest.raises(ContractViolation, match=r"radius: out-of-range \(1\)"):
        read_public(b"radius,malignant\n99,no\n1,yes\n", CONTRACT)


def test_the_program_prints_broken_rules_and_needs_no_pytorch(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    file.write_bytes(b"radius,malignant\n99,no\n1,maybe\n")
    contract = CONTRACT.model_dump_json()
    broken = [["radius", "out-of-range", 1], ["malignant", "unknown-label", 1]]
    assert sorted(json.loads(main([str(file)], contract))) == sorted(broken)
    file.write_bytes(ROWS)
    assert json.loads(main([str(file)], contract)) == []
    program = "import sys, fl.public_test; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
