"""The few calls of Prefect's REST API that the coordinator's API makes.

    prefect = PrefectApi(url, client)
    await prefect.ensure_hospital_pool("hospital-1")
    run_id = await prefect.create_flow_run(
        deployment="federated-training/federated-training",
        name="breast-cancer-1a2b3c4d",
        parameters={"training_id": str(training.id)},
        idempotency_key=str(training.id),
    )

Plain HTTP rather than Prefect's client: importing that costs seconds and a hundred megabytes.
Every call can be repeated without making anything twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import httpx

from fl.invitation import RoundInvitation
from fl.names import HOSPITAL_FLOW, hospital_deployment, pool_name

HOSPITAL_WORKER_TYPE: Final = "hospital"
HOSPITAL_ENTRYPOINT: Final = "flows.hospital_round.hospital_round"
# A pool without variables: the server then refuses a run that names a command or an environment.
NO_VARIABLES: Final[Mapping[str, Any]] = {
    # Prefect refuses an empty object; the hospital's worker reads nothing of it.
    "job_configuration": {"runs": "what the hospital installed and allows"},
    "variables": {"type": "object", "properties": {}, "additionalProperties": False},
}


class PrefectUnavailable(Exception):
    """The Prefect server cannot be reached, or failed."""


class PrefectRefused(Exception):
    """The Prefect server refused a call that should have been accepted."""


class PrefectApi:
    """Prefect's REST API.

    Args:
        url: the API's address, ends in ``/api``.
        client: carries the calls; its time limits and credentials are its owner's.
    """

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    async def ensure_hospital_pool(self, hospital_id: str) -> None:
        """Makes the hospital's work pool and its deployment ``hospital-round/<id>``.

        Raises:
            PrefectUnavailable: the server cannot be reached, or failed.
            PrefectRefused: it refused, or the pool is there with other rules than ours.
        """
        pool = pool_name(hospital_id)
        await self._ensure_pool(pool)
        flow = await self._call("POST", "/flows/", {"name": HOSPITAL_FLOW})
        await self._call(
            "POST",
            "/deployments/",
            {
                "name": hospital_deployment(hospital_id).split("/")[1],
                "flow_id": flow["id"],
                "work_pool_name": pool,
                "entrypoint": HOSPITAL_ENTRYPOINT,
                "description": f"What {hospital_id} does in a round.",
                "tags": ["hospital"],
                "parameter_openapi_schema": invitation_schema(),
                "enforce_parameter_schema": True,
            },
        )

    async def create_flow_run(
        self, *, deployment: str, name: str, parameters: Mapping[str, Any], idempotency_key: str
    ) -> UUID:
        """Schedules a run of a deployment, ``flow/deployment``, and returns the run's id.

        ``name`` is what people see in the Prefect UI.

        Raises:
            PrefectUnavailable: the server cannot be reached, or failed.
            PrefectRefused: no such deployment, or it refuses the parameters.
        """
        found = await self._call("GET", f"/deployments/name/{deployment}")
        run = await self._call(
            "POST",
            f"/deployments/{found['id']}/create_flow_run",
            {"name": name, "parameters": dict(parameters), "idempotency_key": idempotency_key},
        )
        return UUID(run["id"])

    async def _ensure_pool(self, pool: str) -> None:
        """Creates the pool; one that is there must be of our type and take no variables."""
        body = {
            "name": pool,
            "type": HOSPITAL_WORKER_TYPE,
            "base_job_template": NO_VARIABLES,
            "description": "Runs at the hospital; its worker ignores commands and variables.",
        }
        created = await self._send("POST", "/work_pools/", body)
        if created.status_code != HTTPStatus.CONFLICT:
            _checked(created)
            return
        found = await self._call("GET", f"/work_pools/{pool}")
        if found["type"] != HOSPITAL_WORKER_TYPE or found["base_job_template"] != NO_VARIABLES:
            raise PrefectRefused(
                f"work pool {pool!r} is there with type {found['type']!r} or a job template of its "
                "own: delete it, or choose another hospital id"
            )

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return _checked(await self._send(method, path, body))

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        try:
            return await self._client.request(method, self._url + path, json=body)
        except httpx.TransportError as error:
            raise PrefectUnavailable(
                f"Prefect at {self._url} does not answer ({type(error).__name__}); "
                "check that it runs and try again"
            ) from error


def invitation_schema() -> dict[str, Any]:
    """The parameters of ``hospital-round`` as Prefect writes them: one invitation to a round."""
    model = RoundInvitation.model_json_schema(ref_template="#/definitions/{model}")
    definitions = model.pop("$defs")
    return {
        "title": "Parameters",
        "type": "object",
        "properties": {
            "invitation": {"$ref": "#/definitions/RoundInvitation", "title": "invitation"}
        },
        "required": ["invitation"],
        "definitions": {**definitions, "RoundInvitation": model},
    }


def _checked(response: httpx.Response) -> dict[str, Any]:
    """Returns the body of a success; what Prefect says about a refusal stays short."""
    call = f"{response.request.method} {response.request.url.path}"
    if response.is_server_error:
        raise PrefectUnavailable(f"Prefect: {call} failed with {response.status_code}")
    try:
        body = response.json()
    except ValueError:
        raise PrefectUnavailable(f"Prefect: {call} did not answer with JSON") from None
    if not response.is_success:
        detail = body.get("detail") if isinstance(body, dict) else None
        raise PrefectRefused(f"Prefect: {call}: {response.status_code} {str(detail)[:300]}")
    if not isinstance(body, dict) or "id" not in body:
        raise PrefectUnavailable(f"Prefect: {call} answered something else than an object with id")
    return body
