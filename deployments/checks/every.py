"""All that ``fedmed hospital check`` looks at, in the order in which it is shown."""

from __future__ import annotations

from typing import Final

from deployments.checks.connection import (
    check_clock,
    check_coordinator,
    check_credential,
    check_tls,
)
from deployments.checks.data import check_data
from deployments.checks.guard import check_code, check_confinement
from deployments.checks.report import Check
from deployments.checks.site import check_disk, check_ledger, check_peers, check_policy_file

CHECKS: Final[list[Check]] = [
    Check("coordinator", check_coordinator),
    Check("tls", check_tls),
    Check("credential", check_credential),
    Check("clock", check_clock),
    Check("disk", check_disk),
    Check("policy", check_policy_file),
    Check("ledger", check_ledger),
    Check("peers", check_peers),
    Check("code", check_code),
    Check("confinement", check_confinement),
    Check("data", check_data),
]
"""The checks; one that is added here is run."""
