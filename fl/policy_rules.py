"""The rules by which a hospital holds an invitation to its policy.

    check_bounds(policy, invitation, code_hash=own_hash, now=now, latest=latest)
    if why := needs_person(policy, invitation, code_hash=own_hash): ...

============================ =====================================================================
rule                         what it refuses
============================ =====================================================================
``policy-expired``           anything after the policy's last day
``policy-hours``             anything outside of its hours
``least-cohort``             fewer invited hospitals than it wants
``policy-purpose``           a purpose that is not on its list
``policy-model``             a model, or code of a model, that is not on its list
``policy-noise``             noise shared among more hospitals than it trusts to be honest
``policy-epsilon``           a plan that costs more than one training may
============================ =====================================================================

No person lifts these by an approval: only a change of the policy does. How much all trainings have
spent together is the ledger's affair.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

from fl.errors import PolicyViolated
from fl.invitation import RoundInvitation
from fl.policy import AllowedModel, Policy
from fl.secure_round import quorum_of
from privacy.plan import PrivacyPlan
from privacy.pricing import epsilon_of_plan

# What rounding may add to a plan that was made to cost exactly the limit.
_ROUNDING: Final = 1e-6


def check_bounds(
    policy: Policy,
    invitation: RoundInvitation,
    *,
    code_hash: str,
    now: datetime,
    latest: datetime,
) -> None:
    """Returns only if the policy allows the invitation, with or without a person.

    Args:
        policy: the hospital's.
        invitation: the coordinator's.
        code_hash: hash of the model's code, computed by this hospital.
        now: the clock.
        latest: the latest time that this hospital has ever recorded: a clock that was set back does
            not bring an expired policy back.

    Raises:
        PolicyViolated: the first rule of the table above that the invitation breaks.
    """
    _check_expiry(policy, now, latest)
    _check_hours(policy, now)
    if (invited := len(invitation.roster)) < policy.least_cohort:
        raise PolicyViolated(
            "least-cohort", f"{invited} hospitals are invited, this one wants {policy.least_cohort}"
        )
    _check_lists(policy, invitation, code_hash)
    _check_noise(policy, invitation)
    price = plan_epsilon(invitation.plan, delta=policy.delta)
    if price > policy.epsilon_per_training * (1 + _ROUNDING):
        raise PolicyViolated(
            "policy-epsilon",
            f"the plan costs epsilon {price:.3f} at this hospital's delta {policy.delta:g}; it "
            f"allows {policy.epsilon_per_training:g} for one training: ask for less",
        )


def needs_person(policy: Policy) -> str | None:
    """Returns why a person must approve a training that is within the bounds; None when none must.

    A list that the policy does not have leaves the choice to a person.
    """
    if policy.approval == "ask":
        return "the policy asks a person for each training"
    if policy.models is None:
        return "the policy names no models"
    if policy.purposes is None:
        return "the policy names no purposes"
    return None


@lru_cache(maxsize=8)
def plan_epsilon(plan: PrivacyPlan, *, delta: float) -> float:
    """Returns what a plan costs a row at a hospital's own delta, all its rounds and evaluations.

    A row is trained on or held out for ever, so it is the larger of both (parallel composition).
    """
    return epsilon_of_plan(plan.model_copy(update={"delta": delta}))


def _check_expiry(policy: Policy, now: datetime, latest: datetime) -> None:
    at = max(now, latest)
    if policy.local(at).date() > policy.expires:
        reason = f"the policy held until {policy.expires}; its people must set a later day"
        if now < at:
            reason += f"; the hospital's log reaches {at.isoformat()}, beyond its clock"
        raise PolicyViolated("policy-expired", reason)


def _check_hours(policy: Policy, now: datetime) -> None:
    local = policy.local(now)
    if policy.hours is None or any(hours.holds(local) for hours in policy.hours):
        return
    raise PolicyViolated(
        "policy-hours",
        f"it is {local:%a %H:%M} there; rounds are answered "
        f"{', '.join(str(hours) for hours in policy.hours)}",
    )


def _check_lists(policy: Policy, invitation: RoundInvitation, code_hash: str) -> None:
    purposes, models = policy.purposes, policy.models
    if isinstance(purposes, tuple) and invitation.purpose not in purposes:
        raise PolicyViolated(
            "policy-purpose",
            f"{invitation.purpose!r} is not among the purposes {', '.join(purposes)}",
        )
    if not isinstance(models, tuple):
        return
    named = [allowed for allowed in models if allowed.name == invitation.model.name]
    if not named:
        names = ", ".join(sorted({allowed.name for allowed in models}))
        raise PolicyViolated(
            "policy-model", f"{invitation.model.name!r} is not among the models {names}"
        )
    if not any(_has_code(allowed, code_hash) for allowed in named):
        raise PolicyViolated(
            "policy-model",
            f"{invitation.model.name!r} has code {code_hash} at this hospital, the policy names "
            f"{', '.join(allowed.code_hash for allowed in named)}: review it and name the new one",
        )


def _has_code(allowed: AllowedModel, code_hash: str) -> bool:
    return allowed.code_hash in ("any", code_hash)


def _check_noise(policy: Policy, invitation: RoundInvitation) -> None:
    """A sum is of this many hospitals at least; those of them that collude add no noise."""
    shares = invitation.plan.noise_shares
    if policy.most_colluding is None:
        if shares > 1:
            raise PolicyViolated(
                "policy-noise",
                f"the plan shares its noise among {shares} hospitals; this one trusts only its own "
                "(noise_shares 1)",
            )
        return
    invited = len(invitation.roster)
    quorum = min(quorum_of(invited, noise_shares=shares), invited)
    least_sum = max(policy.least_cohort, quorum)
    honest = least_sum - policy.most_colluding
    if shares > max(honest, 1):
        raise PolicyViolated(
            "policy-noise",
            f"the plan shares its noise among {shares} hospitals; of the {least_sum} of a least "
            f"sum this one takes {policy.most_colluding} to collude: share it among "
            f"{max(honest, 1)} at most",
        )
