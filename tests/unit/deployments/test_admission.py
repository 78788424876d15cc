"""What the worker lets run: by the flow's name, by its code, by its parameters."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import flows.hospital_round  # noqa: F401 - loads what a run reaches
from deployments.admission import ALLOWED_FLOWS, Admission, RunRefused, installed_flows
from deployments.confine import ChildLimits
from fl.code_hash import reached_modules
from fl.names import HOSPITAL_FLOW
from tasks.hospital.allowed_flows import CodeNotApproved, approve_code
from tasks.hospital.site import SiteSettings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CODE = "c" * 64


@pytest.fixture
def site_settings(tmp_path: Path) -> SiteSettings:
    return SiteSettings(
        hospital_id="north",
        hospital_home=tmp_path / "north",
        data_path=tmp_path,
        api_url="http://127.0.0.1:1",
        child_memory_mb=2048,
        child_cpu_s=7,
    )


@pytest.fixture
def admission(site_settings: SiteSettings) -> Admission:
    approve_code(site_settings, {HOSPITAL_FLOW: CODE}, now=NOW)
    return Admission(site_settings, {HOSPITAL_FLOW: CODE})


def refused(admission: Admission, flow: str | None, parameters: dict[str, Any]) -> RunRefused:
    with pytest.raises(RunRefused) as found:
        admission.admit(flow, parameters)
    return found.value


def test_an_invitation_to_an_approved_flow_is_admitted_within_the_site_s_limits(
    admission: Admission, parameters: dict[str, Any]
) -> None:
    admitted = admission.admit(HOSPITAL_FLOW, parameters)
    assert admitted.target == "flows.hospital_round:hospital_round"
    assert admitted.limits == ChildLimits(memory_mb=2048, cpu_s=7)
    assert admitted.invitation.model_dump(mode="json") == parameters["invitation"]


@pytest.mark.parametrize("flow", [None, "", "federated-round", "os:system", "Hospital-Round"])
def test_another_flow_is_refused_for_its_round(
    admission: Admission, parameters: dict[str, Any], flow: str | None
) -> None:
    found = refused(admission, flow, parameters)
    assert found.refusal.code == "flow"
    assert found.round_id == UUID(parameters["invitation"]["round_id"])


def test_parameters_that_break_a_rule_are_refused_for_the_round_they_name(
    admission: Admission, parameters: dict[str, Any]
) -> None:
    parameters["invitation"]["number"] = "1"
    found = refused(admission, HOSPITAL_FLOW, parameters)
    assert (found.refusal.code, found.round_id) == (
        "parameters",
        UUID(parameters["invitation"]["round_id"]),
    )
    assert str(found) == "number: Input should be a valid integer"
    assert refused(admission, HOSPITAL_FLOW, {}).round_id is None


def test_an_approval_that_is_taken_back_counts_from_the_next_run(
    admission: Admission, site_settings: SiteSettings, parameters: dict[str, Any]
) -> None:
    admission.admit(HOSPITAL_FLOW, parameters)
    approve_code(site_settings, {HOSPITAL_FLOW: "d" * 64}, now=NOW)
    assert refused(admission, HOSPITAL_FLOW, parameters).refusal.code == "code"
    with pytest.raises(CodeNotApproved, match=CODE):
        admission.require_approved()


def test_a_flow_s_hash_covers_the_worker_s_child_and_all_that_a_run_reaches() -> None:
    packages = ("db", "deployments", "fl", "flows", "privacy", "tasks")
    reached = set(reached_modules(("flows.hospital_round", "deployments.hospital"), packages))
    assert reached >= {
        *("flows.hospital_round", "tasks.hospital.stages", "tasks.hospital.site", "fl.training"),
        *("privacy.secagg.participant", "db.site_store", "deployments.confine.landlock"),
        *("deployments.worker", "deployments.admission", "tasks.hospital.parameters"),
    }
    assert not reached & {"deployments.cli", "fl.strategies", "tasks.gather"}
    loaded = {m for m in sys.modules if m.startswith("tasks.hospital")}
    # These two are the command line's.
    assert loaded - reached <= {"tasks.hospital.ledger_summary", "tasks.hospital.site_file"}


def test_the_installed_hashes_are_those_of_the_allowed_flows() -> None:
    first, second = installed_flows(), installed_flows()
    assert first == second
    assert first.keys() == ALLOWED_FLOWS.keys()
