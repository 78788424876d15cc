"""`fedmed hospital start`: where a hospital runs, and under which rules."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments import hospital
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from tasks.hospital.exchange_errors import ExchangeRefused
from tasks.hospital.policy import policy_file, read_policy
from tasks.hospital.site import SiteIncomplete, SiteSettings, credential_file


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[SiteSettings]:
    hospitals: list[SiteSettings] = []
    monkeypatch.setattr(hospital, "run_hospital", hospitals.append)
    return hospitals


def test_a_hospital_elsewhere_is_run_and_not_added(
    fedmed: Any, api: Any, ran: list[SiteSettings], tmp_path: Path
) -> None:
    done = fedmed(
        *("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path)),
        *("--api-url", "https://fedmed.example.org"),
    )
    assert done.exit_code == 0
    (site,) = ran
    assert (site.hospital_id, site.api_url) == ("north", "https://fedmed.example.org")
    assert site.data_path == tmp_path
    assert api.added == []


def test_a_hospital_on_the_operator_s_machine_is_added_first(
    fedmed: Any,
    api: Any,
    ran: list[SiteSettings],
    settings: StackSettings,
    tmp_path: Path,
) -> None:
    settings.secrets.mkdir(parents=True)
    (settings.secrets / "operator.json").write_text("{}")
    arguments = ("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    fedmed(*arguments)
    assert api.added == ran
    credential_file(ran[0]).write_text("{}")
    fedmed(*arguments)
    assert len(api.added) == 1
    assert len(ran) == 2


def test_a_hospital_s_first_start_leaves_a_policy_that_asks_a_person(
    fedmed: Any, api: Any, ran: list[SiteSettings], tmp_path: Path
) -> None:
    arguments = ("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    first, second = fedmed(*arguments), fedmed(*arguments)
    path = policy_file(ran[0])
    assert f"wrote {path}: it asks a person for each training" in first.output
    assert "wrote" not in second.output
    assert read_policy(ran[0]).approval == "ask"


def test_a_hospital_begins_again_before_libraries_start_threads(
    fedmed: Any, ran: list[SiteSettings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Replaced(Exception):
        pass

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        assert (program, command[1:3]) == (sys.executable, ["-m", "deployments.cli"])
        assert environment["OMP_NUM_THREADS"] == "1"
        raise Replaced

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    done = fedmed("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    assert isinstance(done.exception, Replaced)
    assert ran == []


@pytest.mark.parametrize("error", [SiteIncomplete("no credential"), ExchangeRefused("other keys")])
def test_a_hospital_that_cannot_run_says_why(
    fedmed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def run(site: SiteSettings) -> None:
        raise error

    monkeypatch.setattr(hospital, "run_hospital", run)
    done = fedmed("hospital", "start", "--hospital-id", "north", "--data-path", str(tmp_path))
    assert isinstance(done.exception, OperatorError)
    assert str(done.exception) == str(error)


@pytest.mark.parametrize(
    ("options", "environment", "peers"),
    [
        ((), None, "accepted"),
        ((), "first-use", "first-use"),
        (("--trust-on-first-use",), None, "first-use"),
        (("--trust-on-first-use",), "accepted", "first-use"),
    ],
)
def test_a_hospital_takes_only_accepted_peers_unless_told_otherwise(
    fedmed: Any,
    ran: list[SiteSettings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: tuple[str, ...],
    environment: str | None,
    peers: str,
) -> None:
    if environment is not None:
        monkeypatch.setenv("FEDMED_PEERS", environment)
    place = ("--hospital-id", "north", "--data-path", str(tmp_path))
    assert fedmed("hospital", "start", *place, *options).exit_code == 0
    assert [site.peers for site in ran] == [peers]
