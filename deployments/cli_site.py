"""What the commands of a hospital have in common: their options, and the site that they open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from deployments.errors import OperatorError
from deployments.settings import StackSettings
from tasks.hospital.site import (
    PeerRule,
    Site,
    SiteIncomplete,
    SiteSettings,
    open_site,
    read_credential,
)

HospitalId = Annotated[str, typer.Option(help="The hospital's id, such as hospital-1.")]
ApiUrl = Annotated[
    str | None, typer.Option(envvar="FEDMED_API_URL", help="The coordinator's address.")
]


def place(
    settings: StackSettings,
    hospital_id: str,
    data_path: Path,
    api_url: str | None,
    peers: PeerRule | None = None,
) -> SiteSettings:
    """Returns the settings of a hospital on this machine."""
    site = settings.site(hospital_id, data_path, peers=peers)
    return site if api_url is None else site.model_copy(update={"api_url": api_url})


def settings_here(hospital_id: str) -> SiteSettings:
    """Returns the settings of a site that exists; a mistyped id makes no files.

    Raises:
        OperatorError: there is no such site.
    """
    settings = place(StackSettings(), hospital_id, Path(os.devnull), None)
    try:
        read_credential(settings)
    except SiteIncomplete as error:
        raise OperatorError(str(error)) from None
    return settings


def open_here(hospital_id: str, api_url: str | None = None) -> Site:
    """Opens the site of a command that reads no table.

    Raises:
        OperatorError: there is no such site.
    """
    try:
        return open_site(place(StackSettings(), hospital_id, Path(os.devnull), api_url))
    except SiteIncomplete as error:
        raise OperatorError(str(error)) from None
