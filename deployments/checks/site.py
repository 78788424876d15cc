"""What lies on this machine: the disk, the policy, the ledger, the peers' keys."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx

from db.disk import replace_file
from db.errors import LedgerBroken, LedgerRolledBack
from deployments.at_hand import exchange_at_hand
from deployments.checks.report import Finding, Place, fail, ok, warn
from fl.errors import PolicyError
from privacy.errors import PrivacyError
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.peers import find_peers
from tasks.hospital.policy import policy_file, read_policy
from tasks.hospital.site import keys_directory, open_ledger, open_site
from tasks.hospital.stop import is_stopped

_GIB: Final = 1 << 30
_FREE_WARNS: Final = 2 * _GIB
_FREE_FAILS: Final = _GIB // 4
_POLICY_WARNS: Final = timedelta(days=14)


def check_disk(place: Place) -> Iterator[Finding]:
    """Room, writing that lasts, and secrets that nobody else can read."""
    home = place.settings.hospital_home
    probe = home / "check.tmp"
    try:
        replace_file(probe, b"written and synced")
        probe.unlink()
    except OSError as error:
        yield fail(
            f"{home} cannot be written durably ({error.strerror}): mend the disk or its mode"
        )
        return
    free = shutil.disk_usage(home).free
    level = fail if free < _FREE_FAILS else warn if free < _FREE_WARNS else ok
    yield level(f"{home} is written and synced; {free / _GIB:.1f} GiB are free")
    open_to_others = list(_open_to_others(keys_directory(place.settings)))
    for path, mode, wanted in open_to_others:
        yield fail(f"{path} has mode {mode:04o}: `chmod {wanted:o} {path}`")
    if not open_to_others:
        yield ok("keys and credential are readable by their owner only")


def check_policy_file(place: Place) -> Iterator[Finding]:
    """A policy is there, valid, and has not expired."""
    path = policy_file(place.settings)
    try:
        policy = read_policy(place.settings)
    except PolicyError as error:
        yield fail(f"{path}: {error}")
        return
    today = place.now().astimezone().date()
    text = f"{path} holds until {policy.expires}, approval: {policy.approval}"
    if policy.expires < today:
        yield fail(f"{path} expired {policy.expires}: read it again, then set a later day")
    elif is_stopped(place.settings):
        yield warn("the hospital is stopped: `fedmed hospital resume` lifts it")
    elif policy.expires - today < _POLICY_WARNS:
        yield warn(f"{text}: read it again, then set a later day")
    else:
        yield ok(text)


def check_ledger(place: Place) -> Iterator[Finding]:
    """The record of privacy loss is whole."""
    try:
        entries = open_ledger(place.settings).verified()
    except (LedgerBroken, LedgerRolledBack, PrivacyError) as error:
        yield fail(f"{error}: docs/ledger.md says what to do")
        return
    yield ok(f"{len(entries)} entries verify")


def check_peers(place: Place) -> Iterator[Finding]:
    """Whose keys are accepted here, of the hospitals that rounds invite."""
    site = open_site(place.settings)
    try:
        with exchange_at_hand(site.settings) as exchange:
            peers = find_peers(site, exchange.roster())
    except (ExchangeError, httpx.HTTPError) as error:
        yield fail(f"the coordinator does not show the other hospitals: {error}")
        return
    accepted = [peer for peer in peers if peer.state == "accepted"]
    for peer in peers:
        accept = f"`fedmed hospital accept {peer.hospital_id} FINGERPRINT`"
        if peer.state == "changed":
            yield fail(f"{peer.hospital_id} has other keys than before: ask it, then {accept}")
        elif peer.state == "not accepted" and site.settings.peers == "accepted":
            yield warn(f"{peer.hospital_id} is not accepted: ask it for its fingerprint, {accept}")
    yield ok(f"{len(accepted)} of {len(peers)} other hospitals are accepted")


def _open_to_others(keys: Path) -> Iterator[tuple[Path, int, int]]:
    for path in (keys, *sorted(keys.rglob("*"))):
        found = path.lstat()
        mode, wanted = stat.S_IMODE(found.st_mode), 0o700 if path.is_dir() else 0o600
        if mode & 0o077 or found.st_uid != os.geteuid():
            yield path, mode, wanted
