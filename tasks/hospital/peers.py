"""A hospital's peers, and whose keys are accepted here.

    for peer in find_peers(site, invitation.roster):
        peer.hospital_id, peer.fingerprint, peer.state

A person accepts a peer's keys once, by the fingerprint that this peer's people tell them: the
coordinator could hand out keys of its own, a telephone call shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from db.site_store import PinnedKeys
from privacy.secagg.keys import PublicIdentity
from tasks.hospital.site import Site

PeerState = Literal["accepted", "not accepted", "changed"]


class ShownKeys(Protocol):
    """A hospital's public keys, hex, as the coordinator shows them."""

    @property
    def hospital_id(self) -> str:
        """The hospital."""

    @property
    def signing_key(self) -> str:
        """Its Ed25519 key."""

    @property
    def sealing_key(self) -> str:
        """Its X25519 key."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Another hospital as the coordinator shows it.

    Attributes:
        hospital_id: the hospital.
        keys: the keys that the coordinator shows.
        state: ``accepted``: these are the keys pinned here; ``not accepted``: none are;
            ``changed``: others are.
    """

    hospital_id: str
    keys: PinnedKeys
    state: PeerState

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the keys that the coordinator shows."""
        return PublicIdentity.from_hex(
            signing_key=self.keys.signing_key, sealing_key=self.keys.sealing_key
        ).fingerprint()


def find_peers(site: Site, shown: Iterable[ShownKeys]) -> list[Peer]:
    """Returns all hospitals but this one, in their order; changes nothing."""
    pinned = site.store.pinned_identities()
    peers = []
    for entry in shown:
        if entry.hospital_id == site.settings.hospital_id:
            continue
        keys = PinnedKeys(entry.signing_key, entry.sealing_key)
        peers.append(Peer(entry.hospital_id, keys, _state(pinned.get(entry.hospital_id), keys)))
    return peers


def _state(pinned: PinnedKeys | None, keys: PinnedKeys) -> PeerState:
    if pinned is None:
        return "not accepted"
    return "accepted" if pinned == keys else "changed"
