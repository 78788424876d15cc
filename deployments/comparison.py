"""What a consortium would gain: hospitals alone and together, with and without privacy.

    for result in compare(spec, deals(tables, repeats=5, seed=0), settings((1, 8)), delta=1e-5):
        result.setting.name, result.accuracy, result.auc

The trainings are the platform's own (`fl.rehearsal`), in this process, on rows that must be public
or synthetic: every row is read by everything, and the seeded noise protects nobody.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from fl.architecture_spec import HogLogistic, Logistic
from fl.architectures import build, load_weights, split_fixed
from fl.course import Course
from fl.recipes import completed
from fl.rehearsal import rehearse
from fl.scoring import outputs_of, scores_of_records
from fl.spec import LEAST_COHORT, ModelSpec, TrainingRequest
from fl.split import HELD_OUT, split
from fl.table import Split, Table
from privacy.calibration import plan_for
from privacy.plan import PrivacyRequest

Kind = Literal["local-only", "pooled", "federated"]

# Flower logs every round at INFO.
logging.getLogger("flwr").setLevel(logging.WARNING)

_NO_NOISE: Final = 1e-9
_RIDGE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to train.

    Attributes:
        kind: ``local-only`` each hospital by itself, ``pooled`` all rows in one place, both without
            privacy; ``federated`` by the platform.
        epsilon: of a federated training with differential privacy; None without.
        noise_shares: hospitals that share its noise.
    """

    kind: Kind
    epsilon: float | None = None
    noise_shares: int = 1

    @property
    def name(self) -> str:
        """In words."""
        if self.kind != "federated":
            return self.kind
        if self.epsilon is None:
            return "federated, without privacy"
        noise = "local noise" if self.noise_shares == 1 else "noise shared under the sum"
        return f"federated, epsilon {self.epsilon:g}, {noise}"


@dataclass(frozen=True, slots=True)
class Result:
    """How good the models of a setting are on rows that none was trained on, one of each repeat."""

    setting: Setting
    accuracy: tuple[float, ...]
    auc: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Deal:
    """One repeat: each hospital's rows to train on, and all hospitals' rows to test on."""

    seed: int
    hospitals: tuple[Table, ...]
    test: Table


def settings(epsilons: Sequence[float], *, noise_shares: int) -> tuple[Setting, ...]:
    """Returns the settings that are compared, in the order in which they are shown."""
    shares = (1,) if noise_shares == 1 else (1, noise_shares)
    private = (Setting("federated", e, n) for n in shares for e in sorted(epsilons))
    return (Setting("local-only"), *private, Setting("federated"), Setting("pooled"))


def deals(hospitals: Sequence[Table], *, repeats: int, seed: int) -> Iterator[Deal]:
    """Splits each hospital's rows anew for each repeat, by patient, as the platform does."""
    for repeat in range(repeats):
        key = hashlib.sha256(f"fedmed compare {seed} {repeat}".encode()).digest()
        parts = [split(table, key=key, held_out=HELD_OUT) for table in hospitals]
        test = together([part.held_out for part in parts])
        yield Deal(seed + repeat, tuple(part.train for part in parts), test)


def compare(
    spec: ModelSpec, deals: Sequence[Deal], chosen: Sequence[Setting], *, delta: float
) -> Iterator[Result]:
    """Trains in each setting on each deal.

    Args:
        spec: the model.
        deals: three hospitals at least in each; the test rows have both classes.
        chosen: the settings.
        delta: of the private ones.

    Raises:
        PlanError: no noise keeps an epsilon.
        ModelError: rows that do not fit the model.
    """
    for setting in chosen:
        found = [_tried(spec, deal, setting, delta=delta) for deal in deals]
        yield Result(setting, tuple(a for a, _ in found), tuple(b for _, b in found))


def together(tables: Sequence[Table]) -> Table:
    """Returns the rows of several tables as rows of one, each a patient of its own."""
    return Table(
        np.concatenate([table.features for table in tables]),
        np.concatenate([table.labels for table in tables]),
    )


def federated(
    spec: ModelSpec, deal: Deal, setting: Setting, *, delta: float
) -> NDArray[np.float32]:
    """Returns the test rows' scores by a federated training."""
    epsilon = setting.epsilon
    request = completed(
        TrainingRequest(
            model=spec.name,
            privacy=PrivacyRequest(epsilon=epsilon, delta=delta, noise_shares=setting.noise_shares),
            least_cohort=max(LEAST_COHORT, len(deal.hospitals)),
        ),
        spec.architecture,
    )
    plan = plan_for(request.privacy, rounds=request.rounds)
    if epsilon is None:
        plan = plan.model_copy(update={"noise_multiplier": _NO_NOISE})
    sites = [Split(table, table.rows(np.zeros(len(table), bool))) for table in deal.hospitals]
    weights = rehearse(Course(spec, plan, request.strategy), sites, seed=deal.seed)
    module = build(spec)
    load_weights(module, weights)
    return scores_of_records(module, deal.test.features)


def _tried(spec: ModelSpec, deal: Deal, setting: Setting, *, delta: float) -> tuple[float, float]:
    match setting.kind:
        case "federated":
            return _figures(federated(spec, deal, setting, delta=delta), deal.test)
        case "pooled":
            return _figures(_alone(spec, together(deal.hospitals), deal), deal.test)
        case "local-only":
            own = [_figures(_alone(spec, table, deal), deal.test) for table in deal.hospitals]
            accuracies, aucs = zip(*own, strict=True)
            return float(np.mean(accuracies)), float(np.mean(aucs))


def _alone(spec: ModelSpec, table: Table, deal: Deal) -> NDArray[np.floating]:
    """The test rows' scores by a model without privacy of some rows in one place."""
    if len(np.unique(table.labels)) < 2:
        return np.full(len(deal.test), table.labels[0] if len(table) else 0.5)
    if not isinstance(spec.architecture, Logistic | HogLogistic):
        third = np.arange(len(table)) % LEAST_COHORT
        parts = tuple(table.rows(third == number) for number in range(LEAST_COHORT))
        dealt = Deal(deal.seed, parts, deal.test)
        return federated(spec, dealt, Setting("federated"), delta=1e-5)
    # scikit-learn takes a second to import and is needed here alone.
    from sklearn.linear_model import LogisticRegression

    rows, test = _features(spec, table), _features(spec, deal.test)
    centre, spread = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0) + 1e-9
    ready, asked = (np.nan_to_num((x - centre) / spread) for x in (rows, test))
    model = LogisticRegression(C=_RIDGE, max_iter=1000).fit(ready, table.labels)
    scores: NDArray[np.floating] = model.predict_proba(asked)[:, 1]
    return scores


def _features(spec: ModelSpec, table: Table) -> NDArray[Any]:
    """What the model sees of records, before it standardises; NaN for empty cells."""
    fixed, _ = split_fixed(build(spec))
    return table.features if fixed is None else outputs_of(fixed, table.features)


def _figures(scores: NDArray[np.floating], test: Table) -> tuple[float, float]:
    from sklearn.metrics import roc_auc_score

    called = scores >= 0.5
    return float(np.mean(called == test.labels)), float(roc_auc_score(test.labels, scores))
