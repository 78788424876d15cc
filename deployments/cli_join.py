"""How a hospital joins and what it may change: ``fedmed hospital join, check, rotate, leave, …``.

fedmed hospital join https://fedmed.example.org 7K2M-Q0ZT-… --data-path DIR
fedmed hospital check
fedmed hospital rotate
fedmed hospital leave
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import httpx
import typer
from rich.console import Console

from deployments.at_hand import exchange_at_hand
from deployments.cli_site import (
    ApiUrl,
    DataPath,
    HospitalId,
    explained,
    keep_data_path,
    open_here,
    place,
    reached,
    settings_here,
    site_file,
)
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.tls import AddressRefused
from tasks.hospital.tokens import HospitalAuth

if TYPE_CHECKING:
    from deployments.rotation import ClientOf
    from tasks.hospital.peers import Peer
    from tasks.hospital.site import Site, SiteSettings
    from tasks.hospital.tokens import Credential

join_app = typer.Typer()

_out = Console()
_JOIN_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)

T = TypeVar("T")


@join_app.command("join")
def hospital_join(
    api_url: Annotated[str, typer.Argument(help="The coordinator's address, https://…")],
    code: Annotated[str, typer.Argument(help="The one-time code that its operator was shown.")],
    data_path: DataPath = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="Certificates to trust there, PEM.", exists=True, dir_okay=False),
    ] = None,
    accept_all: Annotated[
        bool, typer.Option("--accept-all", help="Accept the keys of all hospitals, unasked.")
    ] = False,
    accept_none: Annotated[
        bool, typer.Option("--accept-none", help="Accept none now, and do not ask.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Replace keys that are here; they are moved aside.")
    ] = False,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="The way there is protected otherwise.")
    ] = False,
) -> None:
    """Join: make keys, show them to the coordinator, accept the other hospitals, check all."""
    from deployments.admission import installed_flows
    from deployments.joining import Joining, checked_address, join
    from deployments.policy_files import write_first_policy
    from fl.joining import JoinCodeMistyped, parse_join_code
    from tasks.hospital.allowed_flows import record_first_code
    from tasks.hospital.peers import find_peers

    if accept_all and accept_none:
        raise OperatorError("--accept-all and --accept-none exclude each other")
    address = checked_address(api_url, allow_plain_http=allow_plain_http)
    try:
        parsed = parse_join_code(code)
    except JoinCodeMistyped as error:
        raise OperatorError(str(error)) from None
    joining = Joining(
        api_url=address,
        code=parsed,
        hospitals=StackSettings().home / "hospitals",
        data_path=data_path and data_path.resolve(),
        ca_file=ca_file and ca_file.resolve(),
        again=again,
        allow_plain_http=allow_plain_http,
    )
    try:
        client = joining.way.client(timeout=_JOIN_TIMEOUT)
    except AddressRefused as error:
        raise OperatorError(str(error)) from None
    with client:
        joined = join(joining, client)
    settings = place(StackSettings(), joined.hospital_id, None, None)
    site = open_here(joined.hospital_id)
    _print(f"{joined.hospital_id} has joined {address}; its site is {settings.hospital_home}")
    if (path := write_first_policy(settings, today=date.today())) is not None:
        _print(f"wrote {path}: it asks a person for each training; read it, then change it")
    record_first_code(settings, installed_flows(), now=datetime.now(UTC))
    with reached(settings) as exchange:
        peers = find_peers(site, exchange.roster())
    _accept_peers(site, peers, all_of_them=accept_all, none_of_them=accept_none)
    _print("Tell the other hospitals this hospital's own fingerprint, not through the coordinator:")
    _print(f"  {site.identity.public.fingerprint()}")
    passed = _check(settings, data_path)
    _print("`fedmed hospital start` runs it; `fedmed hospital systemd-unit` prints a service of it")
    if not passed:
        raise typer.Exit(1)


@join_app.command("check")
def hospital_check(
    hospital_id: HospitalId, api_url: ApiUrl = None, data_path: DataPath = None
) -> None:
    """Check all that a round needs; one line each, exit code 1 when one fails."""
    settings_here(hospital_id)
    settings = place(StackSettings(), hospital_id, data_path, api_url)
    keep_data_path(settings, data_path)
    settle_here(settings)
    if not _check(settings, data_path):
        raise typer.Exit(1)


@join_app.command("rotate")
def hospital_rotate(
    hospital_id: HospitalId,
    api_url: ApiUrl = None,
    identity: Annotated[
        bool,
        typer.Option("--identity", help="New identity keys; every other hospital must accept."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Replace the client secret, or the identity keys; the old ones are dead at once."""
    from deployments.rotation import rotate_identity, rotate_secret

    settings = settings_here(hospital_id, api_url)
    if not identity:
        _said(settings, partial(rotate_secret, settings))
        _print(f"{hospital_id} has a new client secret; a running hospital takes it up by itself")
        return
    asked = "Each other hospital must accept the new keys, and approvals given here end. Go on?"
    if not (yes or typer.confirm(asked)):
        raise OperatorError("nothing has changed")
    site = open_here(hospital_id, api_url)
    new = _said(settings, partial(rotate_identity, settings))
    before = site.identity.public.fingerprint()
    site.store.log("identity-replaced", {"before": before, "now": new.fingerprint()})
    _print("Tell the other hospitals the new fingerprint, not through the coordinator:")
    _print(f"  {new.fingerprint()}")
    _print("Trainings that were approved here must be approved again")


@join_app.command("leave")
def hospital_leave(
    hospital_id: HospitalId,
    api_url: ApiUrl = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Leave the consortium; the credential is dead, all files here stay."""
    site = open_here(hospital_id, api_url)
    asked = f"{hospital_id} takes part in no further round, and needs a new code to return. Leave?"
    if not (yes or typer.confirm(asked)):
        raise OperatorError("nothing has changed")
    with reached(site.settings) as exchange:
        exchange.leave(hospital_id)
    site.store.log("left", {"coordinator": site.settings.api_url})
    _print(f"{hospital_id} has left; its ledger and its own log stay in")
    _print(f"{site.settings.hospital_home}. Stop its process now.")


@join_app.command("systemd-unit")
def hospital_systemd_unit(
    hospital_id: HospitalId,
    user: Annotated[
        str | None, typer.Option(help="The user it runs as; you, unless given.")
    ] = None,
    memory_max: Annotated[str, typer.Option(help="Most memory, as systemd takes it.")] = "4G",
) -> None:
    """Print a systemd unit that runs the hospital for good."""
    from deployments.systemd_unit import unit_for

    settings = settings_here(hospital_id)
    print(unit_for(settings, StackSettings().home, user=user, memory_max=memory_max), end="")


def settle_here(settings: SiteSettings) -> None:
    """Ends a rotation that was stopped half-way, before anything uses the credential."""
    from deployments.rotation import settle

    _said(settings, partial(settle, settings))


def _said(settings: SiteSettings, do: Callable[[ClientOf], T]) -> T:
    """Calls a function of `deployments.rotation`; what goes wrong is one line."""

    def client_of(credential: Credential) -> ExchangeClient:
        auth = HospitalAuth(settings.api_url, lambda: credential)
        return exchange_at_hand(settings, auth)

    with explained(settings):
        return do(client_of)


def _check(settings: SiteSettings, data_path: Path | None) -> bool:
    from deployments.checks.every import CHECKS
    from deployments.checks.report import Place, run_checks

    known = site_file(settings)
    place = Place(
        settings=settings,
        data_path=data_path or (known.data_path if known else None),
    )
    return run_checks(CHECKS, place, show=_print)


def _accept_peers(site: Site, peers: list[Peer], *, all_of_them: bool, none_of_them: bool) -> None:
    """Asks a person about each hospital whose keys are not accepted yet."""
    new = [peer for peer in peers if peer.state == "not accepted"]
    for peer in (peer for peer in peers if peer.state == "changed"):
        _print(f"{peer.hospital_id} is shown with OTHER keys than were accepted here: ask it")
    asked = not (all_of_them or none_of_them) and sys.stdin.isatty()
    if new and asked:
        _print("Ask each hospital itself, not the coordinator, for its fingerprint.")
    for peer in new:
        _print(f"{peer.hospital_id}  {peer.fingerprint}")
        if all_of_them or (asked and typer.confirm("  does its own fingerprint read so?")):
            site.store.accept_identity(
                peer.hospital_id,
                signing_key=peer.keys.signing_key,
                sealing_key=peer.keys.sealing_key,
            )
            _print(f"  accepted {peer.hospital_id}")
        else:
            _print(f"  later: fedmed hospital accept {peer.hospital_id} FINGERPRINT")


def _print(line: str) -> None:
    # Names come from the coordinator: nothing in them moves the cursor.
    plain = "".join(c if c.isprintable() else "?" for c in line)
    _out.print(plain, highlight=False, soft_wrap=True, markup=False)
