"""What the registry says of a trained model; the flow itself: integration/tasks/test_round."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np

from fl.evaluation import Interval, evaluate, score_histogram
from flows.federated_round import describe
from tasks.evaluate import RoundEvaluation

TRAINING: Any = SimpleNamespace(
    completed=10,
    plan=SimpleNamespace(delta=1e-5),
    training_id=UUID("6f1c1c1e-0000-4000-8000-000000000001"),
)


def test_a_version_says_what_it_cost_and_what_it_is_worth() -> None:
    histogram = score_histogram(np.linspace(0, 1, 20), np.arange(20) > 8)
    evaluation = RoundEvaluation(
        histogram=histogram, figures=evaluate(histogram), interval=Interval(0.9, 1.0)
    )
    assert describe(TRAINING, evaluation, epsilon=7.987) == (
        "10 rounds; on all hospitals' held-out rows auc 0.990, auc_low 0.900, auc_high 1.000, "
        "accuracy 0.950, sensitivity 0.909, specificity 1.000; epsilon 7.99 at delta 1e-05; "
        "training 6f1c1c1e-0000-4000-8000-000000000001"
    )


def test_figures_that_are_not_defined_are_left_out() -> None:
    histogram = score_histogram(np.linspace(0, 1, 20), np.zeros(20))
    text = describe(
        TRAINING, RoundEvaluation(histogram=histogram, figures=evaluate(histogram)), epsilon=1.0
    )
    assert "auc" not in text
    assert "specificity" in text
