"""Checks of what lies on the hospital's own machine."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from deployments.checks.report import Check, Finding, Place, ok, run_checks
from deployments.checks.site import check_disk, check_ledger, check_peers, check_policy_file
from privacy.secagg import Identity
from tasks.hospital.exchange import ExchangeClient, PublishedIdentity
from tasks.hospital.policy import policy_file
from tasks.hospital.site import open_site
from tasks.hospital.stop import stop


def texts(findings: Any) -> str:
    return "\n".join(f"{finding.state} {finding.text}" for finding in findings)


def test_a_whole_site_passes(place: Place, states: Any) -> None:
    assert states(check_disk(place)) == ["ok", "ok"]
    assert states(check_policy_file(place)) == ["ok"]
    assert states(check_ledger(place)) == ["ok"]


@pytest.mark.parametrize(("name", "mode"), [("signing.key", 0o640), (".", 0o755)])
def test_a_secret_that_others_may_read_is_named(place: Place, name: str, mode: int) -> None:
    path = place.settings.hospital_home / "keys" / name
    path.chmod(mode)
    found = texts(check_disk(place))
    right = "700" if name == "." else "600"
    assert f"fail {path.resolve()} has mode {mode:04o}: `chmod {right} " in found


@pytest.mark.parametrize(("free_gib", "state"), [(3.0, "ok"), (1.5, "warn"), (0.2, "fail")])
def test_room_on_the_disk(
    place: Place, states: Any, monkeypatch: pytest.MonkeyPatch, free_gib: float, state: str
) -> None:
    usage = namedtuple("usage", "total used free")
    left = usage(2**40, 0, int(free_gib * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: left)
    assert states(check_disk(place))[0] == state


def test_a_disk_that_does_not_keep_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", failing)
    (finding,) = check_disk(place)
    assert finding.state == "fail"
    assert "Input/output error" in finding.text


@pytest.mark.parametrize(
    ("day", "state"),
    [("2026-05-01", "ok"), ("2027-04-20", "warn"), ("2027-05-01", "warn"), ("2027-05-03", "fail")],
)
def test_a_policy_runs_out(place: Place, states: Any, day: str, state: str) -> None:
    later = replace(place, now=lambda: datetime.fromisoformat(day).replace(hour=12, tzinfo=UTC))
    assert states(check_policy_file(later)) == [state]


def test_a_policy_that_is_not_valid_or_not_there(place: Place) -> None:
    path = policy_file(place.settings)
    path.write_text("expires: tomorrow")
    assert "fail" in texts(check_policy_file(place))
    path.unlink()
    assert "there is none" in texts(check_policy_file(place))


def test_a_stopped_hospital_is_no_failure(place: Place, states: Any) -> None:
    stop(open_site(place.settings), now=place.now())
    assert states(check_policy_file(place)) == ["warn"]


def test_a_ledger_that_was_changed(place: Place, states: Any) -> None:
    (place.settings.hospital_home / "records" / "ledger.db").write_bytes(b"not a database")
    assert states(check_ledger(place)) == ["fail"]


def test_whose_keys_are_accepted(
    place: Place, states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {name: Identity.generate() for name in ("east", "south", "west")}

    class Exchange:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def roster(self) -> Any:
            return [
                PublishedIdentity(
                    hospital_id=name,
                    signing_key=identity.public.signing_key.hex(),
                    sealing_key=identity.public.sealing_key.hex(),
                )
                for name, identity in members.items()
            ]

    monkeypatch.setattr(ExchangeClient, "connect", lambda *_, **__: Exchange())
    store = open_site(place.settings).store
    for name in ("east", "west"):
        public = members[name].public
        store.accept_identity(
            name, signing_key=public.signing_key.hex(), sealing_key=public.sealing_key.hex()
        )
    members["west"] = Identity.generate()
    found = list(check_peers(place))
    assert states(found) == ["warn", "fail", "ok"]
    assert found[0].text.startswith("south is not accepted")
    assert found[1].text.startswith("west has other keys")
    assert found[2].text == "1 of 3 other hospitals are accepted"


def test_a_check_that_breaks_is_a_failure_and_hides_none(place: Place) -> None:
    def broken(_: Place) -> Any:
        yield ok("so far")
        raise KeyError("x")

    lines: list[str] = []
    checks = [Check("first", broken), Check("second", lambda _: [Finding("warn", "look")])]
    assert run_checks(checks, place, show=lines.append) is False
    assert [line.split() for line in lines] == [
        ["ok", "first", "so", "far"],
        ["fail", "first", "KeyError:", "'x'"],
        ["warn", "second", "look"],
    ]
    assert run_checks(checks[1:], place, show=lines.append) is True
