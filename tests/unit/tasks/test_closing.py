"""What the registry says of a trained model; the registry itself: integration/tasks."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np

from fl.evaluation import evaluate, score_histogram
from fl.public_test import PublicEvaluation
from tasks.closing import Closing
from tasks.evaluate import RoundEvaluation

TRAINING: Any = SimpleNamespace(
    completed=10,
    plan=SimpleNamespace(delta=1e-5),
    training_id=UUID("6f1c1c1e-0000-4000-8000-000000000001"),
)


def closing(evaluation: RoundEvaluation, public: PublicEvaluation | None = None) -> Closing:
    return Closing(
        training=TRAINING,
        evaluation=evaluation,
        epsilon=7.987,
        hospitals=3,
        history=[{"epsilon": 0.0}],
        public=public,
        made_on=date(2026, 1, 2),
    )


def both_classes() -> RoundEvaluation:
    histogram = score_histogram(np.linspace(0, 1, 20), np.arange(20) > 8)
    return RoundEvaluation(histogram=histogram, figures=evaluate(histogram))


def one_class() -> RoundEvaluation:
    histogram = score_histogram(np.linspace(0, 1, 20), np.zeros(20))
    return RoundEvaluation(histogram=histogram, figures=evaluate(histogram))


def test_a_version_says_what_it_cost_and_what_it_is_worth() -> None:
    assert closing(both_classes()).describe() == (
        "10 rounds; on all hospitals' held-out rows auc 0.990, accuracy 0.950, sensitivity 0.909, "
        "specificity 1.000; epsilon 7.99 at delta 1e-05; training "
        "6f1c1c1e-0000-4000-8000-000000000001"
    )


def test_figures_that_are_not_defined_are_left_out() -> None:
    ended = closing(one_class())
    assert "auc" not in ended.describe()
    assert "specificity" in ended.describe()
    assert "auc" not in ended.metrics()
    assert "plots/roc.png" not in ended.pictures()


def test_public_figures_are_named_so_and_a_set_that_cannot_be_used_says_why() -> None:
    public = closing(both_classes(), PublicEvaluation({"auc": 0.9}))
    assert public.metrics()["public_auc"] == 0.9
    assert public.describe().endswith("On the public test set: auc 0.900")
    broken = closing(both_classes(), PublicEvaluation(problem="public test set dd: no blob"))
    assert not [name for name in broken.metrics() if name.startswith("public_")]
    assert broken.describe().endswith("On the public test set: public test set dd: no blob")
