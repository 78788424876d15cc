"""What privacy costs in accuracy: noise in each hospital, noise shared under the sum, none.

    python -m deployments.bench.privacy_utility

Breast cancer, five hospitals of 100 patients, the demo's linear model and its recipe, epsilon 0.5
at delta 1e-5 for each patient; accuracy on the other 69 rows, mean of 20 deals. All is the
platform's own but exchange and masks, which change no figure (`fl.rehearsal`).
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from rich.console import Console

from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.demo_data import LABEL, demo_model
from deployments.settings import StackSettings
from fl.architectures import build, load_weights
from fl.course import Course
from fl.data import features_of
from fl.recipes import completed
from fl.rehearsal import rehearse
from fl.spec import TrainingRequest, most_colluding
from fl.table import Split, Table
from fl.weights import Weights
from privacy.calibration import plan_for
from privacy.plan import PrivacyRequest

HOSPITALS: Final = 5
PATIENTS: Final = 100
SEEDS: Final = range(20)
EPSILON: Final = 0.5
DELTA: Final = 1e-5
MOST_SHARES: Final = HOSPITALS - most_colluding(HOSPITALS)


@dataclass(frozen=True, slots=True)
class Deal:
    """One deal of the rows: a table for each hospital, and the rest to test on."""

    hospitals: tuple[Table, ...]
    test: Table


def figures() -> list[Figure]:
    """Returns the accuracies; about half a minute."""
    deals = [dealt(seed) for seed in SEEDS]
    noise = {"local noise": 1}
    for shares in (MOST_SHARES - 1, MOST_SHARES):
        lost = MOST_SHARES - shares
        noise[f"noise shared among {shares} of {HOSPITALS}, {lost} may be lost"] = shares
    found = {
        f"mean accuracy at epsilon {EPSILON}, {name}": [
            accuracy(trained(deal, seed, course=course_of(shares=shares)), deal.test)
            for seed, deal in enumerate(deals)
        ]
        for name, shares in noise.items()
    }
    found["mean accuracy, no privacy, all rows in one place"] = [
        without_privacy(deal) for deal in deals
    ]
    return [
        figure(name, [100 * value for value in values], unit="%", better="higher", mean=True)
        for name, values in found.items()
    ]


def dealt(seed: int) -> Deal:
    """Returns a random deal of the 569 rows."""
    # scikit-learn takes a second to import and is needed here alone.
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    table = data.frame.drop(columns="target")
    table[LABEL] = 1 - data.target
    features = features_of(table, demo_model().contract)
    labels = table[LABEL].to_numpy(np.float32)
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = np.split(order, [PATIENTS * (number + 1) for number in range(HOSPITALS)])
    *hospitals, test = (Table(features[part], labels[part]) for part in parts)
    return Deal(tuple(hospitals), test)


def course_of(*, shares: int, rounds: int | None = None) -> Course:
    """Returns the demo's training at the benchmark's epsilon; its rounds are the recipe's."""
    spec = demo_model()
    privacy = PrivacyRequest(
        epsilon=EPSILON, delta=DELTA, noise_shares=shares, expected_batch_size=PATIENTS
    )
    asked = TrainingRequest(model=spec.name, rounds=rounds, privacy=privacy, least_cohort=HOSPITALS)
    request = completed(asked, spec.architecture)
    return Course(spec, plan_for(request.privacy, rounds=request.rounds), request.strategy)


def trained(deal: Deal, seed: int, *, course: Course) -> Weights:
    """Returns the weights after all rounds on the deal's hospitals."""
    nobody = deal.test.rows(np.zeros(len(deal.test), bool))
    splits = [Split(train=table, held_out=nobody) for table in deal.hospitals]
    return rehearse(course, splits, seed=seed)


def accuracy(weights: Weights, table: Table) -> float:
    """Returns the share of rows on the right side of the model's threshold."""
    module = build(demo_model())
    load_weights(module, weights)
    with torch.inference_mode():
        called = module.eval()(torch.from_numpy(table.features)).reshape(-1).numpy() > 0
    return float(np.mean(called == table.labels))


def without_privacy(deal: Deal) -> float:
    """Returns the accuracy of a logistic regression on all hospitals' rows together."""
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([table.features for table in deal.hospitals])
    labels = np.concatenate([table.labels for table in deal.hospitals])
    model = LogisticRegression(max_iter=1000).fit(features, labels)
    return float(model.score(deal.test.features, deal.test.labels))


def main() -> int:
    """Runs the benchmark; returns 0."""
    logging.getLogger("flwr").setLevel(logging.WARNING)  # two lines a round
    path = StackSettings().home / "bench" / "privacy_utility.json"
    print_report(write_report(path, figures()), Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
