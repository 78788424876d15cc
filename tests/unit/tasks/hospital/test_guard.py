"""The site guard: each thing a hospital refuses, by its code, and what a refusal does not say."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from fl.invitation import RoundInvitation
from privacy.secagg import Identity
from tasks.hospital.guard import check_data, check_invitation
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site

Invite = Callable[..., RoundInvitation]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PATIENT = "Erika Mustermann"
VALUE = "4711.25"


def refusal_of(site: Site, invitation: RoundInvitation) -> Refusal:
    with pytest.raises(Refusal) as refused:
        check_invitation(site, invitation, now=NOW)
    return refused.value


def test_a_round_that_is_meant_for_this_hospital_is_accepted(site: Site, invite: Invite) -> None:
    check_invitation(site, invite(), now=NOW)
    check_invitation(site, invite(number=2), now=NOW)
    check_invitation(site, invite(training_id=uuid4()), now=NOW)


def test_a_roster_without_this_hospital_is_refused(site: Site, invite: Invite) -> None:
    invitation = invite(members={"south": Identity.generate()})
    without = [entry for entry in invitation.roster if entry.hospital_id != "north"]
    renumbered = [e.model_copy(update={"index": i}) for i, e in enumerate(without, start=1)]
    refusal = refusal_of(site, invitation.model_copy(update={"roster": tuple(renumbered)}))
    assert (refusal.code, refusal.reason) == ("not-invited", "the roster does not name north")


@pytest.mark.parametrize("key", ["signing_key", "sealing_key"])
def test_keys_that_are_not_its_own_are_refused(site: Site, invite: Invite, key: str) -> None:
    """A coordinator that puts its own key in place could read what is sealed for this hospital."""
    invitation = invite()
    roster = tuple(
        entry.model_copy(update={key: "a" * 64}) if entry.hospital_id == "north" else entry
        for entry in invitation.roster
    )
    refusal = refusal_of(site, invitation.model_copy(update={"roster": roster}))
    assert refusal.code == "own-keys"


def test_a_peer_whose_keys_changed_is_refused_and_named(site: Site, invite: Invite) -> None:
    check_invitation(site, invite(), now=NOW)
    refusal = refusal_of(site, invite(number=2, members={"west": Identity.generate()}))
    assert refusal.code == "peer-keys"
    assert refusal.reason == "west has other keys than the ones pinned here"


def test_a_peer_s_new_keys_are_taken_once_a_person_has_accepted_them(
    site: Site, invite: Invite
) -> None:
    check_invitation(site, invite(), now=NOW)
    renewed = Identity.generate()
    site.store.accept_identity(
        "west",
        signing_key=renewed.public.signing_key.hex(),
        sealing_key=renewed.public.sealing_key.hex(),
    )
    check_invitation(site, invite(number=2, members={"west": renewed}), now=NOW)


@pytest.mark.parametrize("again", ["all of it", "its number", "its id"])
def test_a_round_is_answered_once(site: Site, invite: Invite, again: str) -> None:
    """A second answer under the same number would subtract two updates from each other."""
    first = invite()
    check_invitation(site, first, now=NOW)
    repeated = {
        "all of it": first,
        "its number": invite(),
        "its id": invite(number=2, round_id=first.round_id),
    }[again]
    refusal = refusal_of(site, repeated)
    assert refusal.code == "round-reused"
    assert f"round {repeated.number} of this training" in refusal.reason


def test_a_round_that_was_refused_can_still_be_answered(site: Site, invite: Invite) -> None:
    check_invitation(site, invite(), now=NOW)
    second = invite(number=2)
    other_keys = invite(number=2, members={"west": Identity.generate()}, round_id=second.round_id)
    assert refusal_of(site, other_keys).code == "peer-keys"
    check_invitation(site, second, now=NOW)


def test_a_table_within_the_contract_is_read(site: Site, invite: Invite) -> None:
    table = check_data(site, invite())
    assert len(table) == 80
    assert site.store.entries() == []


TABLES: dict[str, tuple[str, str]] = {
    "a column is missing": (
        f"name,radius,malignant\n{PATIENT},1,0\n",
        "texture: missing-column",
    ),
    "a column is there twice": (
        f"name,radius,radius,texture,malignant\n{PATIENT},1,1,1,0\n",
        "radius: repeated-column",
    ),
    "a cell is empty": (
        f"name,radius,texture,malignant\n{PATIENT},,1,0\n",
        "radius: missing-value",
    ),
    "a cell is text": (
        f"name,radius,texture,malignant\nx,{PATIENT},1,0\n",
        "radius: not-a-number",
    ),
    "a value is out of range": (
        f"name,radius,texture,malignant\n{PATIENT},{VALUE},1,0\n",
        "radius: out-of-range",
    ),
    "a label is unknown": (
        f"name,radius,texture,malignant\n{PATIENT},1,1,{VALUE}\n",
        "malignant: unknown-label",
    ),
    "a row is too long": (
        f"radius,texture,malignant\n1,1,0\n1,1,0,{PATIENT}\n",
        "not-a-csv",
    ),
    "there is no row": ("radius,texture,malignant\n", "empty-table"),
    "much is wrong": (
        f"name,radius,texture,malignant\n{PATIENT},{VALUE},x,9\n{PATIENT},,1,0\n",
        "malignant: unknown-label; radius: missing-value; radius: out-of-range; "
        "texture: not-a-number",
    ),
}


@pytest.mark.parametrize(("table", "reason"), TABLES.values(), ids=TABLES)
def test_a_table_outside_the_contract_is_refused_by_column_and_rule_alone(
    site: Site, invite: Invite, table: str, reason: str
) -> None:
    site.settings.data_path.write_text(table)
    with pytest.raises(Refusal) as refused:
        check_data(site, invite())
    assert (refused.value.code, refused.value.reason) == ("data-contract", reason)
    # Neither the message that goes out nor a traceback that might.
    told = [refused.value.encode().decode(), "".join(traceback.format_exception(refused.value))]
    for text in told:
        assert PATIENT not in text
        assert VALUE not in text


def test_how_many_rows_break_a_rule_stays_in_the_hospital_s_own_log(
    site: Site, invite: Invite
) -> None:
    rows = "".join(f"{radius},1,0\n" for radius in (99, 98, 97, 1))
    site.settings.data_path.write_text(f"radius,texture,malignant\n{rows}")
    with pytest.raises(Refusal) as refused:
        check_data(site, invite())
    assert refused.value.reason == "radius: out-of-range"
    assert not any(digit in refused.value.reason for digit in "0123456789")
    (entry,) = site.store.entries()
    assert (entry.event, entry.details) == (
        "data-contract",
        {"violations": "radius: out-of-range (3)"},
    )


def test_a_refusal_is_the_same_however_many_rows_there_are_and_break_a_rule(
    site: Site, invite: Invite
) -> None:
    told = set()
    for broken, fitting in ((1, 0), (1, 60), (50, 3)):
        rows = "99,1,0\n" * broken + "1,1,1\n" * fitting
        site.settings.data_path.write_text(f"radius,texture,malignant\n{rows}")
        with pytest.raises(Refusal) as refused:
            check_data(site, invite())
        told.add(refused.value.encode())
    assert len(told) == 1


def test_a_missing_file_is_named_by_its_rule_and_not_by_its_path(
    site: Site, invite: Invite
) -> None:
    site.settings.data_path.unlink()
    with pytest.raises(Refusal) as refused:
        check_data(site, invite())
    assert refused.value.reason == "no-such-file"
    assert str(site.settings.data_path) not in str(refused.value)


def test_a_contract_of_many_broken_columns_is_told_in_part(site: Site, invite: Invite) -> None:
    site.settings.data_path.write_text("other\n1\n")
    columns = [{"name": f"column-{i:03}", "minimum": 0, "maximum": 1} for i in range(100)]
    wide: Any = {
        **invite().model.model_dump(mode="json"),
        "contract": {"columns": columns, "label": {"name": "malignant"}},
    }
    with pytest.raises(Refusal) as refused:
        check_data(site, invite(model=wide))
    assert len(refused.value.reason) == 500
    assert refused.value.reason.startswith("column-000: missing-column; column-001")
