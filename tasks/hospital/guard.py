"""The site guard: what a hospital checks for itself before anything runs.

The invitation comes from the coordinator, which a hospital does not trust: every check here is
against what the hospital knows by itself.
"""

from __future__ import annotations

from datetime import datetime

from db.errors import Conflict
from fl.data import Table, load_table
from fl.errors import ContractViolation
from fl.invitation import RoundInvitation
from tasks.hospital.refusal import Refusal
from tasks.hospital.site import Site


def check_invitation(site: Site, invitation: RoundInvitation, *, now: datetime) -> None:
    """Checks that the round is meant for this hospital, with peers and a number it accepts.

    Pins the peers' identities on first sight; a peer whose keys changed is refused. Records the
    round durably, so that the same round is never answered twice.

    Raises:
        Refusal: ``not-invited``, ``own-keys``, ``peer-keys`` or ``round-reused``.
    """
    hospital_id = site.settings.hospital_id
    entry = next((e for e in invitation.roster if e.hospital_id == hospital_id), None)
    if entry is None:
        raise Refusal("not-invited", f"the roster does not name {hospital_id}")
    own = site.identity.public
    if (entry.signing_key, entry.sealing_key) != (own.signing_key.hex(), own.sealing_key.hex()):
        raise Refusal("own-keys", f"the roster gives {hospital_id} keys that are not its own")
    for peer in invitation.roster:
        try:
            site.store.pin_identity(
                peer.hospital_id, signing_key=peer.signing_key, sealing_key=peer.sealing_key
            )
        except Conflict:
            raise Refusal(
                "peer-keys", f"{peer.hospital_id} has other keys than the ones pinned here"
            ) from None
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
