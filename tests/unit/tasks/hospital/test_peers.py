"""Whose keys a hospital accepts: by a person's decision, or on first use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from db.site_store import PinnedKeys
from fl.invitation import RoundInvitation
from privacy.secagg import Identity
from tasks.hospital.guard import check_invitation
from tasks.hospital.peers import Peer, find_peers
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site

Invite = Callable[..., RoundInvitation]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def trusting(site: Site) -> Site:
    """A site that takes peers on first use."""
    assert site.settings.peers == "first-use"
    return site


@pytest.fixture
def careful(site: Site) -> Site:
    """The same site, which takes only accepted peers."""
    settings = site.settings.model_copy(update={"peers": "accepted"})
    return dataclasses.replace(site, settings=settings)


def keys_of(identity: Identity) -> PinnedKeys:
    public = identity.public
    return PinnedKeys(public.signing_key.hex(), public.sealing_key.hex())


def accept(site: Site, **peers: Identity) -> None:
    for hospital_id, identity in peers.items():
        site.store.accept_identity(hospital_id, **keys_of(identity)._asdict())


def refusal_of(site: Site, invitation: RoundInvitation) -> Refusal:
    with pytest.raises(Refusal) as refused:
        check_invitation(site, invitation, now=NOW)
    return refused.value


def test_all_peers_that_are_not_accepted_are_named_with_fingerprint_and_command(
    careful: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    refusal = refusal_of(careful, invite())
    assert refusal.code == "peer-unaccepted"
    east, west = (peers[name].public.fingerprint() for name in ("east", "west"))
    assert refusal.reason == (
        "ask each of these hospitals for its fingerprint, then `fedmed hospital accept "
        f"--hospital-id north PEER FINGERPRINT`: east {east}, west {west}"
    )


def test_accepted_peers_are_taken_and_one_more_is_refused_alone(
    careful: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    accept(careful, **peers)
    check_invitation(careful, invite(), now=NOW)
    south = Identity.generate()
    refusal = refusal_of(careful, invite(number=2, members={"south": south}))
    assert refusal.code == "peer-unaccepted"
    assert refusal.reason.endswith(f"FINGERPRINT`: south {south.public.fingerprint()}")


def test_a_refused_round_pins_nobody_and_is_answered_once_the_peers_are_accepted(
    careful: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    invitation = invite()
    accept(careful, east=peers["east"])
    assert refusal_of(careful, invitation).code == "peer-unaccepted"
    assert set(careful.store.pinned_identities()) == {"east"}
    accept(careful, west=peers["west"])
    check_invitation(careful, invitation, now=NOW)


def test_changed_keys_are_refused_until_a_person_accepts_them_again(
    careful: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    accept(careful, **peers)
    renewed = Identity.generate()
    invitation = invite(members={"west": renewed})
    refusal = refusal_of(careful, invitation)
    assert (refusal.code, refusal.reason) == (
        "peer-keys",
        "west has other keys than the ones pinned here",
    )
    accept(careful, west=renewed)
    check_invitation(careful, invitation, now=NOW)
    assert refusal_of(careful, invite(number=2)).code == "peer-keys"


def test_changed_keys_are_told_before_peers_that_are_new(
    careful: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    accept(careful, **peers)
    changed = {"east": Identity.generate(), "west": Identity.generate()}
    refusal = refusal_of(careful, invite(members={**changed, "south": Identity.generate()}))
    assert refusal.code == "peer-keys"
    assert refusal.reason == "east, west have other keys than the ones pinned here"


@pytest.mark.parametrize("key", ["signing_key", "sealing_key"])
def test_one_changed_key_is_enough(
    careful: Site, invite: Invite, peers: dict[str, Identity], key: str
) -> None:
    accept(careful, **peers)
    invitation = invite()
    roster = tuple(
        entry.model_copy(update={key: "a" * 64}) if entry.hospital_id == "west" else entry
        for entry in invitation.roster
    )
    assert refusal_of(careful, invitation.model_copy(update={"roster": roster})).code == "peer-keys"


def test_the_hospital_s_own_log_names_peers_for_which_a_refusal_has_no_room(
    careful: Site, invite: Invite
) -> None:
    many = {f"hospital-{number:02}": Identity.generate() for number in range(20)}
    refusal = refusal_of(careful, invite(members=many))
    assert "hospital-19" not in refusal.reason
    entry = careful.store.entries()[-1]
    assert entry.event == "peer-unaccepted"
    shown = {name: identity.public.fingerprint() for name, identity in many.items()}
    assert shown.items() <= entry.details["shown"].items()


def test_on_first_use_new_peers_are_pinned_and_this_hospital_is_none(
    trusting: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    check_invitation(trusting, invite(), now=NOW)
    assert trusting.store.pinned_identities() == {
        name: keys_of(identity) for name, identity in peers.items()
    }
    assert [e.event for e in trusting.store.entries()] == ["identity-pinned"] * 2


def test_on_first_use_nobody_is_pinned_beside_a_peer_whose_keys_changed(
    trusting: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    check_invitation(trusting, invite(), now=NOW)
    newer = {"aachen": Identity.generate(), "west": Identity.generate()}
    assert refusal_of(trusting, invite(number=2, members=newer)).code == "peer-keys"
    assert set(trusting.store.pinned_identities()) == set(peers)


def test_each_peer_s_state_is_what_a_person_has_decided(
    careful: Site, invite: Invite, peers: dict[str, Identity]
) -> None:
    accept(careful, east=peers["east"], west=Identity.generate())
    south = Identity.generate()
    found = find_peers(careful, invite(members={"south": south}).roster)
    assert found == [
        Peer("east", keys_of(peers["east"]), "accepted"),
        Peer("south", keys_of(south), "not accepted"),
        Peer("west", keys_of(peers["west"]), "changed"),
    ]
    assert [peer.fingerprint for peer in found] == [
        identity.public.fingerprint() for identity in (peers["east"], south, peers["west"])
    ]
