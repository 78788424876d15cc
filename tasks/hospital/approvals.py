"""Approvals at a hospital: a person's signed yes to one training, on these terms and no others.

    require_approval(site, invitation, code_hash=own_hash, why="…", epsilon=7.9, now=now)
    approve(site, site.approvals.asked(training_id), now=now)

The signature is the hospital's own Ed25519 key over the terms (`fl.approval`): a row that someone
writes into the hospital's database is no approval.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from db.site_approvals import Approval
from fl.approval import ApprovalTerms, statement
from fl.fingerprint import file_fingerprint
from fl.invitation import RoundInvitation
from privacy.errors import SignatureRefused
from privacy.secagg.keys import PublicIdentity
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site


def check_not_revoked(site: Site, training_id: UUID) -> None:
    """Returns only if no person has taken this training back.

    Raises:
        Refusal: ``approval-revoked``.
    """
    decision = site.approvals.decision(training_id)
    if decision is not None and decision.state == "revoked":
        raise Refusal(
            "approval-revoked",
            f"the hospital's people took training {training_id} back on {decision.at:%Y-%m-%d}",
        )


def require_approval(
    site: Site,
    invitation: RoundInvitation,
    *,
    code_hash: str,
    why: str,
    epsilon: float,
    now: datetime,
) -> None:
    """Returns only if a person has approved the training on just these terms.

    Otherwise what it asks for is recorded for a person to see.

    Args:
        site: the hospital.
        invitation: to a round of the training.
        code_hash: hash of the model's code at this hospital.
        why: why a person is asked.
        epsilon: price of the plan at the hospital's own delta.
        now: the time of the record.

    Raises:
        Refusal: ``awaiting-approval``, ``approval-signature``, or ``data-contract`` when the data
            cannot be read.
    """
    terms = ApprovalTerms(
        hospital_id=site.settings.hospital_id,
        training_id=invitation.training_id,
        model=invitation.model.name,
        code_hash=code_hash,
        purpose=invitation.purpose,
        plan=invitation.plan,
        dataset=_dataset(site),
    )
    decision = site.approvals.decision(invitation.training_id)
    reason = why
    if decision is not None and decision.state == "given":
        differing = verified(site, decision).differing(terms)
        if not differing:
            return
        reason = f"it was approved with another {' and '.join(differing)}"
    shown = _shown(site, invitation, epsilon=epsilon, reason=reason)
    site.approvals.ask(invitation.training_id, terms=terms.canonical(), shown=shown, at=now)
    raise Refusal(
        "awaiting-approval",
        f"`fedmed hospital approve --hospital-id {site.settings.hospital_id} "
        f"{invitation.training_id}` by this hospital's people: {reason}",
    )


def approve(site: Site, asked: Approval, *, now: datetime) -> None:
    """Signs and records a person's approval of what was asked.

    Raises:
        pydantic.ValidationError: the record does not hold terms.
    """
    terms = ApprovalTerms.model_validate_json(asked.terms)
    if (terms.training_id, terms.hospital_id) != (asked.training_id, site.settings.hospital_id):
        raise ValueError(f"the record of training {asked.training_id} holds another one's terms")
    signature = site.identity.signing.sign(statement(asked.terms, now))
    site.approvals.give(
        asked.training_id, terms=asked.terms, shown=asked.shown, signature=signature, at=now
    )


def verified(site: Site, approval: Approval) -> ApprovalTerms:
    """Returns the terms of a given approval, once its signature has been verified.

    Raises:
        Refusal: ``approval-signature``.
    """
    signed = statement(approval.terms, approval.at)
    try:
        site.identity.public.verify(approval.signature or b"", signed, what="approval")
        return ApprovalTerms.model_validate_json(approval.terms)
    except (SignatureRefused, ValidationError):
        raise Refusal(
            "approval-signature",
            f"the approval of training {approval.training_id} is not signed by this hospital's "
            "present key: revoke it and approve it again",
        ) from None


def _dataset(site: Site) -> str:
    try:
        return file_fingerprint(site.settings.data_path)
    except FileNotFoundError:
        raise Refusal("data-contract", "no-such-file") from None
    except OSError:
        raise Refusal("data-contract", "unreadable-file") from None


def _shown(
    site: Site, invitation: RoundInvitation, *, epsilon: float, reason: str
) -> dict[str, Any]:
    return {
        "reason": reason,
        "epsilon": epsilon,
        "model": invitation.model.model_dump(mode="json"),
        "roster": {
            entry.hospital_id: PublicIdentity.from_hex(
                signing_key=entry.signing_key, sealing_key=entry.sealing_key
            ).fingerprint()
            for entry in invitation.roster
        },
    }
