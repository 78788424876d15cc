"""Names that the coordinator and a hospital must derive alike."""

from __future__ import annotations

from typing import Final

HOSPITAL_FLOW = "hospital-round"
POOL_PREFIX = "hospital-"
GATEWAY_PATH = "/prefect/api"
"""Where the API serves Prefect to hospitals."""

STANDARDISER: Final = "standardiser"
"""The first layer of a model that standardises its features; its weights' names begin with it."""

CENTRE: Final = f"{STANDARDISER}.centre"
SPREAD: Final = f"{STANDARDISER}.spread"
RECORDS: Final = f"{STANDARDISER}.records"


def gateway_url(api_url: str) -> str:
    """Returns the address of Prefect's API for hospitals, below the coordinator's.

    >>> gateway_url("https://fedmed.example.org/")
    'https://fedmed.example.org/prefect/api'
    """
    return f"{api_url.rstrip('/')}{GATEWAY_PATH}"


def pool_name(hospital_id: str) -> str:
    """Returns the hospital's work pool: ``hospital-<id>``, without doubling the prefix.

    >>> pool_name("charite"), pool_name("hospital-1")
    ('hospital-charite', 'hospital-1')
    """
    return hospital_id if hospital_id.startswith(POOL_PREFIX) else POOL_PREFIX + hospital_id


def hospital_deployment(hospital_id: str) -> str:
    """Returns the full name of the hospital's deployment, ``flow/deployment``.

    >>> hospital_deployment("hospital-1")
    'hospital-round/hospital-1'
    """
    return f"{HOSPITAL_FLOW}/{hospital_id}"
