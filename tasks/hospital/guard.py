"""The site guard: what a hospital checks for itself before anything runs.

The invitation comes from the coordinator, which a hospital does not trust: every check here is
against what the hospital knows by itself.
"""

from __future__ import annotations

from datetime import datetime

from db.errors import Conflict
from fl.data import load_table
from fl.errors import ContractViolation
from fl.invitation import RoundInvitation
from fl.table import Table
from tasks.hospital.peers import Peer, find_peers
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site


def check_invitation(site: Site, invitation: RoundInvitation, *, now: datetime) -> None:
    """Checks that the round is meant for this hospital, with peers and a number it accepts.

    Every peer must be one whose keys are accepted here, or, where the site takes them on first
    use, one that is new. Records the round durably, so that the same round is never answered twice.

    Raises:
        Refusal: ``not-invited``, ``own-keys``, ``peer-keys``, ``peer-unaccepted`` or
            ``round-reused``.
    """
    hospital_id = site.settings.hospital_id
    entry = next((e for e in invitation.roster if e.hospital_id == hospital_id), None)
    if entry is None:
        raise Refusal("not-invited", f"the roster does not name {hospital_id}")
    own = site.identity.public
    if (entry.signing_key, entry.sealing_key) != (own.signing_key.hex(), own.sealing_key.hex()):
        raise Refusal("own-keys", f"the roster gives {hospital_id} keys that are not its own")
    for peer in _new_peers(site, invitation):
        try:
            site.store.pin_identity(
                peer.hospital_id,
                signing_key=peer.keys.signing_key,
                sealing_key=peer.keys.sealing_key,
            )
        except Conflict:  # pinned since it was looked up
            raise _other_keys([peer]) from None
    try:
        site.store.begin_round(
            training_id=invitation.training_id,
            number=invitation.number,
            round_id=invitation.round_id,
            now=now,
        )
    except Conflict:
        raise Refusal(
            "round-reused", f"round {invitation.number} of this training was answered before"
        ) from None


def _new_peers(site: Site, invitation: RoundInvitation) -> list[Peer]:
    """Checks all peers; returns those to pin, which only first use leaves."""
    peers = find_peers(site, invitation.roster)
    if changed := [peer for peer in peers if peer.state == "changed"]:
        _log_peers(site, "peer-keys", changed)
        raise _other_keys(changed)
    new = [peer for peer in peers if peer.state == "not accepted"]
    if new and site.settings.peers == "accepted":
        _log_peers(site, "peer-unaccepted", new)
        named = ", ".join(f"{peer.hospital_id} {peer.fingerprint}" for peer in new)
        raise Refusal(
            "peer-unaccepted",
            # The command first: a refusal is cut at its end.
            "ask each of these hospitals for its fingerprint, then `fedmed hospital accept "
            f"--hospital-id {site.settings.hospital_id} PEER FINGERPRINT`: {named}",
        )
    return new


def _other_keys(peers: list[Peer]) -> Refusal:
    named = ", ".join(peer.hospital_id for peer in peers)
    have = "has" if len(peers) == 1 else "have"
    return Refusal("peer-keys", f"{named} {have} other keys than the ones pinned here")


def _log_peers(site: Site, event: str, peers: list[Peer]) -> None:
    """Keeps all of them in the hospital's own log, however many a refusal has room for."""
    site.store.log(event, {"shown": {peer.hospital_id: peer.fingerprint for peer in peers}})


def check_data(site: Site, invitation: RoundInvitation) -> Table:
    """Reads the hospital's table and holds it to the model's data contract.

    How many rows break a rule stays in the hospital's own log; columns and rules leave it.

    Raises:
        Refusal: ``data-contract``, naming columns and rules.
    """
    try:
        return load_table(site.settings.data_path, invitation.model.contract)
    except ContractViolation as violation:
        site.store.log("data-contract", {"violations": str(violation)})
        named = sorted(
            {f"{v.column}: {v.rule}" if v.column else v.rule for v in violation.violations}
        )
        raise Refusal("data-contract", "; ".join(named)) from None
