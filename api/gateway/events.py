"""What a worker tells about itself: events, rebuilt from what is the hospital's own.

    event = await inspect(own, caller, frame, now=now)
    await upstream.call("POST", "/events", orjson.dumps([event]))

Prefect's automations act on events, so a hospital may send a worker's and no other: what becomes of
a run, the server says itself. Of a resource only its id, role and a few labels go on; names are
those that the gateway knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from api.gateway.bodies import Inspected, printable, read
from api.gateway.own import OwnObjects
from api.gateway.refusals import not_yours, refused
from fl.names import HOSPITAL_FLOW, pool_name

MAX_RELATED: Final = 32
_OLDEST: Final = timedelta(days=7)
_AHEAD: Final = timedelta(minutes=5)
_UUID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_WORKER: Final = re.compile(r"prefect\.worker\.hospital\.(?P<slug>[a-z0-9-]{1,200})", re.ASCII)
_TAG: Final = re.compile(r"prefect\.tag\.[A-Za-z0-9_.:/-]{1,100}", re.ASCII)
_OBJECT: Final = re.compile(
    rf"prefect\.(?P<kind>flow-run|flow|deployment|work-pool)\.(?P<id>{_UUID})", re.ASCII
)
# Labels with values of a hospital's own choice: bounded, and read by people alone.
_LABELS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "worker": frozenset({"prefect.version"}),
        "flow-run": frozenset(
            {
                "prefect.resource.name",
                "prefect.infrastructure.identifier",
                "prefect.infrastructure.status-code",
            }
        ),
    }
)

Resource = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=100)],
        Annotated[str, StringConstraints(max_length=300)],
    ],
    Field(max_length=16),
]


class Event(Inspected):
    """An event as Prefect's client sends it; the payload, of which a worker has none, is left."""

    id: UUID
    occurred: AwareDatetime
    event: Annotated[str, StringConstraints(max_length=100)]
    resource: Resource
    related: list[Resource] = Field(default_factory=list, max_length=MAX_RELATED)
    follows: UUID | None = None


_NAME: Final = re.compile(r"prefect\.worker\.[a-z-]{1,50}", re.ASCII)


async def inspect(own: OwnObjects, hospital_id: str, frame: bytes, *, now: datetime) -> Any:
    """Returns the event to pass on, ready for JSON.

    Raises:
        Problem: 403 when it names something that is not the hospital's, 422 when it is no event,
            503 when Prefect could not be asked whose something is.
    """
    event = read(Event, frame)
    if not _NAME.fullmatch(event.event):
        raise refused("event", "a hospital may send events of its worker alone")
    pool = pool_name(hospital_id)
    resource = _own_worker(hospital_id, event.resource)
    related = [await _own_related(own, hospital_id, pool, item) for item in event.related]
    return {
        "id": event.id,
        # Clocks differ; the order of what one worker sends stays as it is.
        "occurred": min(max(event.occurred, now - _OLDEST), now + _AHEAD),
        "event": event.event,
        "resource": resource,
        "related": related,
        "payload": {},
        "follows": event.follows,
    }


def worker_prefix(hospital_id: str) -> str:
    """The beginning of the names of a hospital's workers, as Prefect writes them in an event.

    >>> worker_prefix("north--2")
    'north-2'
    """
    return re.sub(r"-+", "-", hospital_id).strip("-")


async def _own_related(
    own: OwnObjects, hospital_id: str, pool: str, resource: Mapping[str, str]
) -> dict[str, str]:
    role = resource.get("prefect.resource.role", "")
    match role:
        case "worker":
            rebuilt = _own_worker(hospital_id, resource)
        case "tag":
            rebuilt = _tag(resource)
        case "flow-run" | "flow" | "deployment" | "work-pool":
            rebuilt = await _own_object(own, hospital_id, pool, role, resource)
        case _:
            raise refused("role", "a related resource has no role that a worker's event has")
    return {**rebuilt, "prefect.resource.role": role}


async def _own_object(
    own: OwnObjects, hospital_id: str, pool: str, role: str, resource: Mapping[str, str]
) -> dict[str, str]:
    resource_id = resource.get("prefect.resource.id", "")
    found = _OBJECT.fullmatch(resource_id)
    if found is None or found["kind"] != role:
        raise not_yours("resource")
    match role:
        case "flow-run":
            await own.run(pool, found["id"])
            return _rebuilt(resource, role)
        case "flow":
            await own.require("flow", pool, found["id"])
            name = HOSPITAL_FLOW
        case "deployment":
            await own.require("deployment", pool, found["id"])
            name = hospital_id
        case _:
            if found["id"] != await own.pool_id(pool):
                raise not_yours("work pool")
            name = pool
    return {"prefect.resource.id": resource_id, "prefect.resource.name": name}


def _tag(resource: Mapping[str, str]) -> dict[str, str]:
    resource_id = resource.get("prefect.resource.id", "")
    if not _TAG.fullmatch(resource_id):
        raise refused("tag", "a tag is a short word")
    return {"prefect.resource.id": resource_id}


def _own_worker(hospital_id: str, resource: Mapping[str, str]) -> dict[str, str]:
    found = _WORKER.fullmatch(resource.get("prefect.resource.id", ""))
    prefix = worker_prefix(hospital_id)
    if found is None or not (found["slug"] == prefix or found["slug"].startswith(f"{prefix}-")):
        raise not_yours("worker")
    return {
        **_rebuilt(resource, "worker"),
        "prefect.resource.name": found["slug"],
        "prefect.worker-type": "hospital",
    }


def _rebuilt(resource: Mapping[str, str], kind: str) -> dict[str, str]:
    clean = printable(200)
    kept = {name: clean(value) for name, value in resource.items() if name in _LABELS[kind]}
    return {"prefect.resource.id": resource["prefect.resource.id"], **kept}
