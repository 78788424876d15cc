"""What a hospital's people decide: ``fedmed hospital policy, approvals, approve, revoke, stop, …``.

fedmed hospital policy --hospital-id north
fedmed hospital approvals --hospital-id north
fedmed hospital approve --hospital-id north TRAINING
fedmed hospital revoke --hospital-id north TRAINING
fedmed hospital stop --hospital-id north
fedmed hospital resume --hospital-id north

None of them needs the coordinator or a running hospital.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.console import Console

from deployments.cli_site import HospitalId, open_here
from deployments.errors import OperatorError
from tasks.hospital.refusal import Refusal
from tasks.hospital.stop import is_stopped, resume, stop

if TYPE_CHECKING:
    from db.site_approvals import Approval
    from fl.policy import Policy
    from tasks.hospital.site import Site

policy_app = typer.Typer()

_out = Console()

TrainingId = Annotated[UUID, typer.Argument(help="The training's id, as `approvals` lists it.")]


@policy_app.command("policy")
def hospital_policy(hospital_id: HospitalId) -> None:
    """Show the policy in force, or what is wrong with it."""
    from fl.errors import PolicyError
    from tasks.hospital.policy import policy_file, read_policy

    site = open_here(hospital_id)
    path = policy_file(site.settings)
    try:
        policy = read_policy(site.settings)
    except PolicyError as error:
        raise OperatorError(f"{path}: {error}") from None
    _print(f"{path}{'; the hospital is stopped' if is_stopped(site.settings) else ''}")
    for name, value in _policy_lines(policy).items():
        _print(f"{name:<21} {value}")


@policy_app.command("approvals")
def hospital_approvals(hospital_id: HospitalId) -> None:
    """List the trainings that wait for a person, and those that were decided."""
    site = open_here(hospital_id)
    found = site.approvals.latest()
    for approval in found:
        _show(site, approval)
    if not found:
        _print("no training has asked for an approval")


@policy_app.command("approve")
def hospital_approve(
    hospital_id: HospitalId,
    training: TrainingId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask again.")] = False,
) -> None:
    """Approve one training, on the terms that are shown and no others."""
    from tasks.hospital.approvals import approve

    site = open_here(hospital_id)
    asked = site.approvals.asked(training)
    if asked is None:
        raise OperatorError(
            f"training {training} has not asked {hospital_id} for an approval; `fedmed hospital "
            f"approvals --hospital-id {hospital_id}` lists those that have"
        )
    _show(site, asked)
    if not (yes or typer.confirm("Approve this training, on these terms?")):
        raise OperatorError("nothing is approved")
    try:
        approve(site, asked, now=datetime.now(UTC))
    except (ValidationError, ValueError):
        raise OperatorError(f"what is recorded of training {training} is no longer whole") from None
    _print(f"approved {training}; it counts from its next round on")


@policy_app.command("revoke")
def hospital_revoke(hospital_id: HospitalId, training: TrainingId) -> None:
    """Take an approval back, or refuse a training that no person was asked about."""
    site = open_here(hospital_id)
    known = site.approvals.revoke(training, at=datetime.now(UTC))
    never = "" if known else f"; it has never asked {hospital_id} for an approval"
    _print(f"revoked {training}{never}")


@policy_app.command("stop")
def hospital_stop(hospital_id: HospitalId) -> None:
    """Answer no further round and upload nothing more, from now on."""
    stopped = stop(open_here(hospital_id), now=datetime.now(UTC))
    before = "" if stopped else " already"
    _print(f"{hospital_id} is stopped{before}; `fedmed hospital resume` lifts it")


@policy_app.command("resume")
def hospital_resume(hospital_id: HospitalId) -> None:
    """Answer rounds again."""
    if not resume(open_here(hospital_id)):
        raise OperatorError(f"{hospital_id} is not stopped")
    _print(f"{hospital_id} answers rounds again")


def _policy_lines(policy: Policy) -> dict[str, str]:
    asked = "none but what a person approves"
    match policy.models:
        case None:
            models = asked
        case "any":
            models = "any"
        case listed:
            models = ", ".join(f"{model.name} (code {model.code_hash})" for model in listed)
    match policy.purposes:
        case None:
            purposes = asked
        case "any":
            purposes = "any"
        case named:
            purposes = ", ".join(named)
    noise = "its own alone"
    if policy.most_colluding is not None:
        noise = f"shared, {policy.most_colluding} of the others may collude"
    hours = ", ".join(map(str, policy.hours)) if policy.hours is not None else "any"
    return {
        "expires": str(policy.expires),
        "epsilon_per_training": f"{policy.epsilon_per_training:g}",
        "epsilon_total": f"{policy.epsilon_total:g}",
        "delta": f"{policy.delta:g}",
        "cohort": policy.cohort,
        "least_cohort": str(policy.least_cohort),
        "noise": noise,
        "models": models,
        "purposes": purposes,
        "hours": f"{hours} ({policy.timezone or 'local time'})",
        "approval": policy.approval,
    }


def _show(site: Site, approval: Approval) -> None:
    """Prints all that an approval is bound to, with what a person should know beside it."""
    shown = approval.shown
    _print(f"training {approval.training_id}  {_standing(site, approval)}")
    if not shown:
        return  # taken back before it asked for anything
    for name, value in _terms(approval).items():
        _print(f"  {name:<10} {value}")


def _standing(site: Site, approval: Approval) -> str:
    from tasks.hospital.approvals import verified

    at = f"{approval.at:%Y-%m-%d %H:%M} UTC"
    match approval.state:
        case "asked":
            return f"waits for an approval since {at}: {approval.shown['reason']}"
        case "revoked":
            return f"revoked {at}"
        case "given":
            try:
                verified(site, approval)
            except Refusal as refusal:
                return f"NOT VALID: {refusal.reason}"
            return f"approved {at}"


def _terms(approval: Approval) -> dict[str, str]:
    import json

    terms: dict[str, Any] = json.loads(approval.terms)
    shown, plan = approval.shown, terms["plan"]
    model = shown["model"]
    columns = model["contract"]["columns"]
    architecture = " ".join(f"{k}={v}" for k, v in model["architecture"].items())
    return {
        "purpose": terms["purpose"],
        "model": f"{terms['model']}: {architecture}, {len(columns)} columns, "
        f"label {model['contract']['label']['name']}",
        "code": terms["code_hash"],
        "epsilon": f"{shown['epsilon']:.3f} for all {plan['rounds']} rounds",
        "plan": " ".join(f"{name}={value}" for name, value in plan.items()),
        "data": terms["dataset"],
        "hospitals": ", ".join(f"{name} {print_}" for name, print_ in shown["roster"].items()),
    }


def _print(line: str) -> None:
    # Names of columns and models come from the coordinator: nothing in them moves the cursor.
    plain = "".join(c if c.isprintable() else "?" for c in line)
    _out.print(plain, highlight=False, soft_wrap=True, markup=False)
