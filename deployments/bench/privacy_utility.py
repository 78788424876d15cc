"""What privacy costs in accuracy: noise in each hospital, noise shared under the sum, none.

    python -m deployments.bench.privacy_utility

Breast cancer, five hospitals of 100 patients, a linear model, epsilon 0.5 at delta 1e-5 for each
patient; accuracy on the other 69 rows, mean of 20 deals. Training, quantiser and noise are the
platform's own; exchange and masks, which change no figure, are left out.

Rounds, clip norm and learning rate were fixed beforehand, for local and for shared noise each: by
the accuracy on the 500 rows trained on, never on test rows, in other deals of the same 569 rows
(seeds from 1000). That choice is not part of epsilon.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.demo_data import LABEL, demo_model
from deployments.settings import StackSettings
from fl.architecture_spec import Logistic
from fl.architectures import build, initial_weights, layout_of, load_weights, weights_of
from fl.data import features_of
from fl.integer_noise import check_weights, update_noise
from fl.invitation import RosterEntry, RoundInvitation
from fl.secure_round import PUBLIC_WEIGHT, sum_parameters
from fl.spec import Hyperparameters, ModelSpec, most_colluding
from fl.table import Table
from fl.training import train_locally
from fl.weights import flatten, layout, unflatten
from privacy.gaussian_dp import mu_of
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan
from privacy.secagg.parameters import SumParameters
from privacy.secagg.quantiser import Quantiser, read_sum

HOSPITALS: Final = 5
PATIENTS: Final = 100
SEEDS: Final = range(20)
EPSILON: Final = 0.5
DELTA: Final = 1e-5
MOST_SHARES: Final = HOSPITALS - most_colluding(HOSPITALS)


@dataclass(frozen=True, slots=True)
class Constants:
    """How a training goes; ``fl.spec`` and ``privacy.plan`` say what each means."""

    rounds: int
    clip_norm: float
    learning_rate: float


LOCAL: Final = Constants(rounds=20, clip_norm=0.25, learning_rate=16.0)
SHARED: Final = Constants(rounds=50, clip_norm=0.2, learning_rate=25.0)


@dataclass(frozen=True, slots=True)
class Deal:
    """One deal of the rows: a table for each hospital, and the rest to test on."""

    hospitals: tuple[Table, ...]
    test: Table


def figures() -> list[Figure]:
    """Returns the accuracies; about half a minute."""
    deals = [dealt(seed) for seed in SEEDS]
    found = {
        "local noise": [accuracy_of(deal, seed, shares=1) for seed, deal in enumerate(deals)],
        **{
            f"noise shared among {shares} of {HOSPITALS}, {lost} may be lost": [
                accuracy_of(deal, seed, shares=shares) for seed, deal in enumerate(deals)
            ]
            for shares, lost in ((MOST_SHARES - 1, 1), (MOST_SHARES, 0))
        },
        "no privacy, all rows in one place": [without_privacy(deal) for deal in deals],
    }
    return [
        figure(
            f"mean accuracy at epsilon {EPSILON}, {name}"
            if "no privacy" not in name
            else f"mean accuracy, {name}",
            [100 * value for value in values],
            unit="%",
            better="higher",
            mean=True,
        )
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


def plan_of(*, shares: int) -> PrivacyPlan:
    """Returns the plan: one step a round on all patients, at the exact price of Gaussian noise."""
    constants = _constants(shares)
    return PrivacyPlan(
        clip_norm=constants.clip_norm,
        noise_multiplier=math.sqrt(constants.rounds) / mu_of(EPSILON, delta=DELTA),
        noise_shares=shares,
        evaluation_noise_multiplier=1000,
        sampling_rate=1,
        expected_batch_size=PATIENTS,
        steps_per_round=1,
        rounds=constants.rounds,
        delta=DELTA,
    )


def accuracy_of(deal: Deal, seed: int, *, shares: int) -> float:
    """Returns the accuracy on the test rows after all rounds."""
    return accuracy(trained(deal, seed, shares=shares), deal.test)


def trained(deal: Deal, seed: int, *, shares: int) -> NDArray[np.float32]:
    """Returns the mean of the weights of the last half of the rounds.

    In a round each hospital takes its step, which is quantised, noised and summed. The mean is made
    of what was released anyway; it evens out noise and the swing of large steps.
    """
    spec, plan = _model(_constants(shares)), plan_of(shares=shares)
    parameters = _sum_parameters(spec, plan)
    generators = [
        SecureGenerator.seeded(1000 * seed + number) for number in range(len(deal.hospitals))
    ]
    initial = initial_weights(spec, seed=seed)
    like, weights = layout(initial), flatten(initial)
    released: list[NDArray[np.float32]] = []
    for _ in range(plan.rounds):
        check_weights(unflatten(weights, like))
        total = np.zeros(parameters.length, parameters.dtype)
        for table, generator in zip(deal.hospitals, generators, strict=True):
            total += _upload(spec, plan, parameters, weights, table, generator)
        mean = read_sum(total, parameters=parameters, parties=parameters.roster).mean
        weights = weights + mean
        released.append(weights)
    half: NDArray[np.float32] = np.mean(released[plan.rounds // 2 :], axis=0)
    return half


def accuracy(weights: NDArray[np.float32], table: Table) -> float:
    """Returns the share of rows on the right side of the linear model's threshold."""
    bias, *slopes = weights  # in the order of the names: 0.bias, 0.weight
    called = table.features @ np.array(slopes) + bias > 0
    return float(np.mean(called == table.labels))


def without_privacy(deal: Deal) -> float:
    """Returns the accuracy of a logistic regression on all hospitals' rows together."""
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([table.features for table in deal.hospitals])
    labels = np.concatenate([table.labels for table in deal.hospitals])
    model = LogisticRegression(max_iter=1000).fit(features, labels)
    return float(model.score(deal.test.features, deal.test.labels))


def _upload(
    spec: ModelSpec,
    plan: PrivacyPlan,
    parameters: SumParameters,
    weights: NDArray[np.float32],
    table: Table,
    generator: SecureGenerator,
) -> NDArray[np.unsignedinteger]:
    """Returns what a hospital would mask."""
    module = build(spec)
    load_weights(module, unflatten(weights, layout_of(module)))
    train_locally(
        module, table, plan=plan, hyperparameters=spec.hyperparameters, generator=generator
    )
    quantiser = Quantiser(
        flatten(weights_of(module)) - weights,
        weight=PUBLIC_WEIGHT,
        counts=np.zeros(parameters.counters, np.int64),
        parameters=parameters,
        rounding_key=generator.bytes(32),
        noise=update_noise(parameters, generator=generator),
    )
    elements = np.empty(parameters.length, parameters.dtype)
    quantiser.fill(0, elements)
    return elements


def _constants(shares: int) -> Constants:
    return SHARED if shares > 1 else LOCAL


def _model(constants: Constants) -> ModelSpec:
    return demo_model().model_copy(
        update={
            "architecture": Logistic(),
            "hyperparameters": Hyperparameters(learning_rate=constants.learning_rate, momentum=0),
        }
    )


def _sum_parameters(spec: ModelSpec, plan: PrivacyPlan) -> SumParameters:
    """Returns what the round's invitation would give."""
    key = "0" * 64
    invitation = RoundInvitation(
        round_id=UUID(int=1),
        training_id=UUID(int=2),
        number=1,
        kind="training",
        model=spec,
        weights=key,
        plan=plan,
        roster=tuple(
            RosterEntry(hospital_id=f"h{index}", index=index, signing_key=key, sealing_key=key)
            for index in range(1, HOSPITALS + 1)
        ),
        deadline_s=60,
    )
    return sum_parameters(invitation, parameters=len(spec.contract.columns) + 1)


def main() -> int:
    """Runs the benchmark; returns 0."""
    path = StackSettings().home / "bench" / "privacy_utility.json"
    print_report(write_report(path, figures()), Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
