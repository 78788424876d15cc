"""Dispatching a round: one run of ``hospital-round`` in each invited hospital's work pool."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound

from db.queries import messages, participations
from db.session import transaction
from fl.names import hospital_deployment
from tasks.cohort import OpenedRound
from tasks.coordinator import Coordinator
from tasks.errors import RoundFailed


@task(name="dispatch_training", cache_policy=NO_CACHE, persist_result=False)
def dispatch_training(coordinator: Coordinator, opened: OpenedRound) -> dict[str, UUID]:
    """Creates the hospitals' flow runs, each of which the gateway hands to the worker that waits.

    The idempotency key is round and hospital: a repeated dispatch creates no second run. Nothing
    waits for the runs or reads their results; the exchange brings the hospitals' answers. The
    dispatch messages are fetched by nobody: they are the record of what was sent to whom, by hash.

    Returns:
        The flow run of each hospital.

    Raises:
        RoundFailed: a hospital has no deployment.
    """
    body = opened.invitation.model_dump_json().encode()
    digest = coordinator.blobs.put(body)
    runs: dict[str, UUID] = {}
    with get_client(sync_client=True) as client:
        for hospital_id in opened.hospital_ids:
            runs[hospital_id] = _create_run(client, opened, hospital_id)
            with transaction(coordinator.engine) as session:
                participations.set_flow_run(
                    session,
                    round_id=opened.round_id,
                    hospital_id=hospital_id,
                    flow_run_id=str(runs[hospital_id]),
                )
                messages.post_message(
                    session,
                    round_id=opened.round_id,
                    hospital_id=hospital_id,
                    kind="dispatch",
                    digest=digest,
                    size_bytes=len(body),
                )
    return runs


def _create_run(client: SyncPrefectClient, opened: OpenedRound, hospital_id: str) -> UUID:
    try:
        run = client.create_flow_run_from_deployment(
            _deployment_id(client, hospital_id),
            name=f"{hospital_id}-round-{opened.invitation.number}",
            parameters={"invitation": opened.invitation.model_dump(mode="json")},
            idempotency_key=f"{opened.round_id}:{hospital_id}",
            tags=[f"training:{opened.invitation.training_id}", f"round:{opened.round_id}"],
        )
    except ObjectNotFound:
        _deployment_id.cache_clear()
        raise RoundFailed(
            f"{hospital_id} has no deployment {hospital_deployment(hospital_id)!r}; "
            "add the hospital again through the API"
        ) from None
    return run.id


@lru_cache(maxsize=512)
def _deployment_id(client: SyncPrefectClient, hospital_id: str) -> UUID:
    """A hospital's deployment does not change from one round of a flow run to the next."""
    return client.read_deployment_by_name(hospital_deployment(hospital_id)).id
