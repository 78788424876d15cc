"""The hospital's policy at a round: read anew each time, from its own disk.

    policy = check_policy(site, invitation, now=now)      # the policy in force

Data is touched only after this: a data contract that nobody has allowed is not even tried on the
rows, since what it refuses would tell where they lie.
"""

from __future__ import annotations

import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Final

from fl.code_hash import model_code_hash
from fl.errors import ModelError, PolicyError, PolicyViolated
from fl.invitation import RoundInvitation
from fl.policy import Policy, parse_policy
from fl.policy_rules import check_bounds, needs_person, plan_epsilon
from tasks.hospital.approvals import check_not_revoked, require_approval
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site, SiteSettings
from tasks.hospital.stop import check_not_stopped

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_MOST_BYTES: Final = 1 << 20


def policy_file(settings: SiteSettings) -> Path:
    """Returns where the hospital's policy lies."""
    return settings.hospital_home / "policy.yaml"


def read_policy(settings: SiteSettings) -> Policy:
    """Returns the policy in force: the file's, with the larger least cohort of file and settings.

    Raises:
        PolicyError: there is none, others may write it, or it cannot be read; one line.
    """
    policy = parse_policy(_own_text(policy_file(settings)))
    least = max(policy.least_cohort, settings.least_cohort)
    return policy.model_copy(update={"least_cohort": least})


def check_policy(site: Site, invitation: RoundInvitation, *, now: datetime) -> Policy:
    """Returns the policy in force, if it allows the round and, where it asks one, a person did.

    Raises:
        Refusal: ``stopped``, ``policy``, ``model``, a rule of `fl.policy_rules`, or one of
            `tasks.hospital.approvals`.
    """
    check_not_stopped(site.settings)
    check_not_revoked(site, invitation.training_id)
    try:
        policy = read_policy(site.settings)
    except PolicyError as error:
        raise Refusal("policy", f"the hospital's policy.yaml: {error}") from None
    try:
        code_hash = model_code_hash(invitation.model)
    except ModelError as error:  # an architecture of somebody's own that is not installed here
        raise Refusal("model", str(error)) from None
    latest = site.store.latest_time() or now
    try:
        check_bounds(policy, invitation, code_hash=code_hash, now=now, latest=latest)
    except PolicyViolated as violated:
        raise Refusal(violated.rule, violated.reason) from None
    if (why := needs_person(policy)) is not None:
        epsilon = plan_epsilon(invitation.plan, delta=policy.delta)
        require_approval(site, invitation, code_hash=code_hash, why=why, epsilon=epsilon, now=now)
    return policy


def check_still_allowed(site: Site, invitation: RoundInvitation) -> None:
    """Returns only if nobody has stopped the hospital or taken the training back meanwhile.

    Raises:
        Refusal: ``stopped`` or ``approval-revoked``.
    """
    check_not_stopped(site.settings)
    check_not_revoked(site, invitation.training_id)


def _own_text(path: Path) -> str:
    """Returns the content of a file that nobody but its owner can have written."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())  # of the very file that is read
            if found.st_uid not in (os.geteuid(), 0):
                raise PolicyError(f"it belongs to another user (uid {found.st_uid})")
            if found.st_mode & _WRITABLE_BY_OTHERS:
                mode = stat.S_IMODE(found.st_mode)
                raise PolicyError(f"others may write it (mode {mode:04o}); chmod 600 it")
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise PolicyError("there is none; `fedmed hospital start` writes one to fill in") from None
    except OSError as error:
        raise PolicyError(f"it cannot be read ({error.strerror})") from None
    if len(content) > _MOST_BYTES:
        raise PolicyError(f"it is longer than {_MOST_BYTES} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise PolicyError("it is not UTF-8") from None
