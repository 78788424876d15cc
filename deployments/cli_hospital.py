"""The commands of a hospital: ``fedmed hospital …``.

fedmed hospital start --data-path DIR
fedmed hospital identity
fedmed hospital peers
fedmed hospital accept PEER FINGERPRINT

How it joins is in `deployments.cli_join`, what its people decide on trainings in
`deployments.cli_policy`, its ledger in `deployments.cli_ledger`; what the operator decides on
hospitals is in `deployments.cli_members`; the code that they approved in `deployments.cli_code`;
its own figures in `deployments.cli_report`.
Where one hospital has joined, none of them needs
``--hospital-id``.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments.cli_code import code_app
from deployments.cli_join import join_app, settle_here
from deployments.cli_ledger import ledger_app
from deployments.cli_members import members_app
from deployments.cli_policy import policy_app
from deployments.cli_report import report_app
from deployments.cli_site import (
    ApiUrl,
    DataPath,
    HospitalId,
    keep_data_path,
    open_here,
    place,
    reached,
    site_file,
)
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from tasks.hospital.allowed_flows import CodeNotApproved
from tasks.hospital.exchange_errors import ExchangeRefused
from tasks.hospital.peers import Peer, find_peers
from tasks.hospital.site import Site, SiteIncomplete, credential_file

hospital_app = typer.Typer(help="Run and inspect a hospital.", no_args_is_help=True)
hospital_app.add_typer(ledger_app, name="ledger")
for commands in (join_app, policy_app, code_app, report_app, members_app):
    hospital_app.add_typer(commands)

_out = Console()


@hospital_app.command("start")
def hospital_start(
    hospital_id: HospitalId,
    data_path: DataPath = None,
    api_url: ApiUrl = None,
    trust_on_first_use: Annotated[
        bool,
        typer.Option(
            "--trust-on-first-use",
            help="Accept the keys that the coordinator shows first; to try things out.",
        ),
    ] = False,
) -> None:
    """Run a hospital: its worker takes part in the rounds it is invited to."""
    from deployments.confine import CLEAN, ConfinementFailed, allowed_environment
    from deployments.stack.services import LEAN_CLIENT, NO_TELEMETRY, ONE_THREAD, hospital_prefect

    settings = StackSettings()
    fixed = {**NO_TELEMETRY, **LEAN_CLIENT, **ONE_THREAD, **CLEAN}
    if not fixed.items() <= os.environ.items():
        # Libraries start their threads when they are loaded, and a hospital's process must have
        # none when it forks: begin again where nothing is loaded yet, and no secret is known.
        command = [sys.executable, "-m", "deployments.cli", *sys.argv[1:]]
        os.execve(command[0], command, {**allowed_environment(os.environ), **fixed})  # noqa: S606 - our own command
    site = place(
        settings, hospital_id, data_path, api_url, "first-use" if trust_on_first_use else None
    )
    os.environ.update(hospital_prefect(site.api_url, site.trust))
    os.environ.setdefault("PREFECT_HOME", str(settings.home / "prefect"))
    from deployments.hospital import SiteBusy, run_hospital
    from deployments.operator import OperatorClient
    from deployments.policy_files import write_first_policy

    known = site_file(site)
    if data_path is None and (known is None or known.data_path is None):
        raise OperatorError(
            f"{hospital_id}: say where its table is with --data-path; it is kept for the next time"
        )
    keep_data_path(site, data_path)
    if not credential_file(site).exists() and (settings.secrets / "operator.json").exists():
        # The operator's own machine: add the hospital as the operator would.
        with OperatorClient.connect(settings) as operator:
            operator.add_hospital(site)
        _out.print(f"added {hospital_id}; its credential is {credential_file(site)}")
    if credential_file(site).exists():
        settle_here(site)
    if (path := write_first_policy(site, today=date.today())) is not None:
        _print(f"wrote {path}: it asks a person for each training; read it, then change it")
    _out.print(f"{hospital_id} works for {site.api_url}; Ctrl-C stops it")
    try:
        run_hospital(site)
    except (SiteIncomplete, SiteBusy, ExchangeRefused, CodeNotApproved, ConfinementFailed) as error:
        raise OperatorError(str(error)) from None


@hospital_app.command("identity")
def hospital_identity(hospital_id: HospitalId) -> None:
    """Print the hospital's own fingerprint, to tell the other hospitals."""
    _print(open_here(hospital_id).identity.public.fingerprint())


@hospital_app.command("peers")
def hospital_peers(hospital_id: HospitalId, api_url: ApiUrl = None) -> None:
    """Show the other hospitals, the fingerprints of their keys and whether they are accepted."""
    site = open_here(hospital_id, api_url)
    peers = _shown_peers(site)
    table = Table()
    table.add_column("hospital", overflow="fold")  # whole, since `accept` takes it
    table.add_column("fingerprint", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for peer in peers:
        table.add_row(peer.hospital_id, peer.fingerprint, peer.state)
    _out.print(table)
    if any(peer.state != "accepted" for peer in peers):
        _print("Ask each hospital itself, not the coordinator, for its fingerprint; then")
        _print(f"fedmed hospital accept --hospital-id {hospital_id} PEER FINGERPRINT")


@hospital_app.command("accept")
def hospital_accept(
    hospital_id: HospitalId,
    peer: Annotated[str, typer.Argument(help="The other hospital's id.")],
    fingerprint: Annotated[str, typer.Argument(help="Its fingerprint, as its people tell it.")],
    api_url: ApiUrl = None,
) -> None:
    """Accept another hospital's keys, if they have the fingerprint that its people told you."""
    site = open_here(hospital_id, api_url)
    if peer == hospital_id:
        raise OperatorError(f"{peer} is this hospital itself; it needs no acceptance")
    shown = {entry.hospital_id: entry for entry in _shown_peers(site)}
    if peer not in shown:
        raise OperatorError(
            f"the coordinator shows no hospital {peer!r}; `fedmed hospital peers --hospital-id "
            f"{hospital_id}` lists them"
        )
    found = shown[peer]
    if fingerprint.strip().lower() != found.fingerprint:
        raise OperatorError(
            f"the coordinator shows {found.fingerprint} for {peer}, you gave {fingerprint}: "
            "nothing is accepted"
        )
    site.store.accept_identity(
        peer, signing_key=found.keys.signing_key, sealing_key=found.keys.sealing_key
    )
    _print(f"accepted {peer}")


def _shown_peers(site: Site) -> list[Peer]:
    with reached(site.settings) as exchange:
        return find_peers(site, exchange.roster())


def _print(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True)
