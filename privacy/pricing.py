"""What a privacy plan costs a patient's row, in all and round by round.

A row is trained on or held out at its hospital for ever, never both, so a plan costs the larger of
what the two kinds of rows release (parallel composition).

    price(plan).epsilon   # when all its rounds run
    epsilon_by_round(plan)[2]   # after three
"""

from __future__ import annotations

from dataclasses import dataclass

from dp_accounting import pld

from privacy.accounting import (
    ADD_OR_REMOVE,
    PldAccountant,
    RdpAccountant,
    pld_interval,
    tightest_accountant,
)
from privacy.mechanisms import (
    Mechanism,
    evaluation_mechanism_of,
    local_mechanism_of,
    mechanism_of,
    tally,
)
from privacy.plan import PrivacyPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPrice:
    """What a plan costs each row when all its rounds run, at one delta.

    Attributes:
        epsilon_trained: of a row that is trained on.
        epsilon_held_out: of a row that is held out, by concentrated privacy; its noise is integers.
        accountant: the one behind ``epsilon_trained``: gaussian, zcdp, pld or rdp.
        epsilon_rdp: the larger of both by Rényi differential privacy, to compare with other tools.
        epsilon_local: of a row that is trained on, should all other hospitals collude with the
            coordinator; None when each hospital's own update carries all the noise.
        delta: of all of these.
    """

    epsilon_trained: float
    epsilon_held_out: float
    accountant: str
    epsilon_rdp: float
    epsilon_local: float | None
    delta: float

    @property
    def epsilon(self) -> float:
        """The price of the plan, the larger of both kinds of rows; the one to report."""
        return max(self.epsilon_trained, self.epsilon_held_out)


def price(plan: PrivacyPlan) -> PlanPrice:
    """Returns what a plan costs each row when all its rounds run.

    Raises:
        PlanError: it spends so much that no accountant can tell how much.
    """
    trained, held_out = mechanism_of(plan), evaluation_mechanism_of(plan)
    by_rdp = RdpAccountant()
    return PlanPrice(
        epsilon_trained=declared_epsilon(trained, delta=plan.delta),
        epsilon_held_out=declared_epsilon(held_out, delta=plan.delta),
        accountant=tightest_accountant(trained).name,
        epsilon_rdp=max(by_rdp.epsilon(rows, delta=plan.delta) for rows in (trained, held_out)),
        epsilon_local=(
            declared_epsilon(local_mechanism_of(plan), delta=plan.delta)
            if plan.noise_shares > 1
            else None
        ),
        delta=plan.delta,
    )


def epsilon_of_plan(plan: PrivacyPlan) -> float:
    """Returns the price of a plan: the larger of the rows trained on and the held-out rows.

    Raises:
        PlanError: it spends so much that no accountant can tell how much.
    """
    return max(
        declared_epsilon(rows, delta=plan.delta)
        for rows in (mechanism_of(plan), evaluation_mechanism_of(plan))
    )


def declared_epsilon(mechanism: Mechanism, *, delta: float) -> float:
    """Returns the least known bound of epsilon of a mechanism whose parameters were declared."""
    return tightest_accountant(mechanism).epsilon(mechanism, delta=delta)


def epsilon_by_round(plan: PrivacyPlan) -> tuple[float, ...]:
    """Returns the epsilon spent after round 1, 2, ... ``plan.rounds``, at the plan's delta.

    Round r covers the evaluations of all weights up to those that it leaves. So the last entry is
    the plan's price, with sampling up to the rounding of the convolutions (1e-6 of it).

    A hundred rounds take some milliseconds without sampling, and about 0.7 s with it.
    """
    held_out = (
        declared_epsilon(
            evaluation_mechanism_of(plan, evaluations=plan.evaluations_after(r)), delta=plan.delta
        )
        for r in range(1, plan.rounds + 1)
    )
    return tuple(map(max, _trained_by_round(plan), held_out))


def _trained_by_round(plan: PrivacyPlan) -> tuple[float, ...]:
    if isinstance(tightest_accountant(mechanism_of(plan)), PldAccountant):
        return _by_convolution(plan)
    return tuple(
        declared_epsilon(mechanism_of(plan, rounds=r), delta=plan.delta)
        for r in range(1, plan.rounds + 1)
    )


def _by_convolution(plan: PrivacyPlan) -> tuple[float, ...]:
    one_round = pld.privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=plan.noise_multiplier,
        sampling_prob=plan.sampling_rate,
        value_discretization_interval=pld_interval(tally(mechanism_of(plan))),
        neighboring_relation=ADD_OR_REMOVE,
    ).self_compose(plan.steps_per_round)
    spent = one_round
    epsilons = [float(spent.get_epsilon_for_delta(plan.delta))]
    for _ in range(plan.rounds - 1):
        spent = spent.compose(one_round)
        epsilons.append(float(spent.get_epsilon_for_delta(plan.delta)))
    return tuple(epsilons)
