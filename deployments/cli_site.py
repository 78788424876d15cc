"""What the commands of a hospital have in common: their options, and the site that they open."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer

from deployments.at_hand import exchange_at_hand
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.site import (
    PeerRule,
    Site,
    SiteIncomplete,
    SiteSettings,
    open_site,
    read_credential,
)
from tasks.hospital.site_file import (
    SiteFile,
    SiteFileBroken,
    read_site_file,
    sites_below,
    write_site_file,
)


def only_site() -> str:
    """Returns the id of the one hospital of this machine.

    Raises:
        OperatorError: there is none, or several.
    """
    hospitals = StackSettings().home / "hospitals"
    try:
        found = sites_below(hospitals)
    except SiteFileBroken as error:
        raise OperatorError(str(error)) from None
    if len(found) == 1:
        return found[0].hospital_id
    if not found:
        raise OperatorError(
            f"no hospital has joined below {hospitals}: `fedmed hospital join` does, --hospital-id "
            "names one, FEDMED_HOME another directory"
        )
    named = ", ".join(site.hospital_id for site in found)
    raise OperatorError(f"{hospitals} has several hospitals ({named}): say --hospital-id")


HospitalId = Annotated[
    str,
    typer.Option(
        default_factory=only_site,
        show_default="the one hospital of this machine",
        help="The hospital's id, such as hospital-1.",
    ),
]
ApiUrl = Annotated[
    str | None,
    typer.Option(
        envvar="FEDMED_API_URL", help="The coordinator's address, unless the hospital joined there."
    ),
]
DataPath = Annotated[
    Path | None,
    typer.Option(help="Its table: a CSV file or a folder with one; kept.", exists=True),
]


def site_file(settings: SiteSettings) -> SiteFile | None:
    """Returns the site file of a hospital, None when it has not joined by command.

    Raises:
        OperatorError: it cannot be read.
    """
    try:
        return read_site_file(settings.hospital_home)
    except SiteFileBroken as error:
        raise OperatorError(str(error)) from None


def place(
    settings: StackSettings,
    hospital_id: str,
    data_path: Path | None,
    api_url: str | None,
    peers: PeerRule | None = None,
) -> SiteSettings:
    """Returns the settings of a hospital on this machine.

    What is not given comes from its site file, and without one from the local stack; a table that
    nobody has named is an empty file.
    """
    site = settings.site(hospital_id, data_path or Path(os.devnull), peers=peers)
    known = site_file(site)
    given: dict[str, object] = {"data_path": data_path, "api_url": api_url}
    if known is not None:
        of_file: dict[str, object] = {
            "data_path": known.data_path,
            "api_url": known.api_url,
            "ca_file": known.ca_file,
            "allow_plain_http": known.allow_plain_http or None,
        }
        given = of_file | {name: value for name, value in given.items() if value is not None}
    return site.model_copy(update={k: v for k, v in given.items() if v is not None})


def keep_data_path(settings: SiteSettings, data_path: Path | None) -> None:
    """Writes a table that was named into the site file, if the hospital has one."""
    known = site_file(settings)
    if known is not None and data_path is not None:
        kept = known.given(data_path=data_path.resolve())
        if kept != known:
            write_site_file(settings.hospital_home, kept)


def settings_here(hospital_id: str, api_url: str | None = None) -> SiteSettings:
    """Returns the settings of a site that exists; a mistyped id makes no files.

    Raises:
        OperatorError: there is no such site.
    """
    settings = place(StackSettings(), hospital_id, None, api_url)
    try:
        read_credential(settings)
    except SiteIncomplete as error:
        raise OperatorError(str(error)) from None
    return settings


def open_here(hospital_id: str, api_url: str | None = None) -> Site:
    """Opens the site of a command.

    Raises:
        OperatorError: there is no such site.
    """
    try:
        return open_site(place(StackSettings(), hospital_id, None, api_url))
    except SiteIncomplete as error:
        raise OperatorError(str(error)) from None


@contextmanager
def reached(settings: SiteSettings) -> Iterator[ExchangeClient]:
    """Opens the exchange as this hospital; what goes wrong there is one line.

    Raises:
        OperatorError: the coordinator does not answer, or refuses.
    """
    with (
        explained(settings),
        exchange_at_hand(settings) as exchange,
    ):
        yield exchange


@contextmanager
def explained(settings: SiteSettings) -> Iterator[None]:
    """Makes one line of what goes wrong on the way to the coordinator.

    Raises:
        OperatorError: it does not answer, or refuses.
    """
    try:
        yield
    except (ExchangeError, SiteIncomplete) as error:
        raise OperatorError(str(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, FileNotFoundError) as error:
        raise OperatorError(
            f"the coordinator at {settings.api_url} does not answer ({type(error).__name__}: "
            f"{error}); --api-url names another address{_hint(settings.api_url, error)}"
        ) from None


def _hint(url: str, error: Exception) -> str:
    cut_off = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
    return ", write https:// if it serves HTTPS" if cut_off and url.startswith("http://") else ""
