"""Dispatching a round: one flow run a hospital, named on the exchange as soon as it is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.exceptions import ObjectNotFound

from db.queries import messages
from db.session import transaction
from fl.invitation import RoundInvitation
from tasks import dispatch
from tasks.dispatch import dispatch_training
from tasks.errors import RoundFailed

pytestmark = pytest.mark.integration


@dataclass(eq=False)
class FakePrefect:
    """As much of Prefect's client as is called; ``tests/e2e`` has the real one."""

    deployments: dict[str, UUID]
    asked: list[str] = field(default_factory=list)
    runs: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read_deployment_by_name(self, name: str) -> Any:
        self.asked.append(name)
        if name not in self.deployments:
            raise ObjectNotFound(httpx.HTTPError("404"))
        return SimpleNamespace(id=self.deployments[name])

    def create_flow_run_from_deployment(self, deployment_id: UUID, **run: Any) -> Any:
        created = SimpleNamespace(id=uuid4(), deployment_id=deployment_id, **run)
        return self.runs.setdefault(run["idempotency_key"], created)


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePrefect]:
    names = ("east", "north", "west")
    server = FakePrefect({f"hospital-round/{name}": uuid4() for name in names})
    monkeypatch.setattr(dispatch, "get_client", lambda *, sync_client: server)
    yield server
    dispatch._deployment_id.cache_clear()


def test_each_hospital_gets_one_run_with_the_whole_invitation(
    consortium: Any, prefect: FakePrefect
) -> None:
    opened = consortium.open()
    runs = dispatch_training.fn(consortium.coordinator, opened)

    assert set(runs) == set(consortium.hospitals)
    for hospital_id, run_id in runs.items():
        run = prefect.runs[f"{opened.round_id}:{hospital_id}"]
        assert run.id == run_id
        assert run.deployment_id == prefect.deployments[f"hospital-round/{hospital_id}"]
        assert run.name == f"{hospital_id}-round-1"
        assert RoundInvitation.model_validate(run.parameters["invitation"]) == opened.invitation
        assert f"round:{opened.round_id}" in run.tags
    recorded = {
        row["hospital_id"]: row["flow_run_id"] for row in consortium.contents()["participations"]
    }
    assert recorded == {hospital_id: str(run_id) for hospital_id, run_id in runs.items()}


def test_what_was_sent_to_each_hospital_is_kept(consortium: Any, prefect: FakePrefect) -> None:
    opened = consortium.open()
    dispatch_training.fn(consortium.coordinator, opened)
    with transaction(consortium.engine) as session:
        found = messages.list_messages(session, round_id=opened.round_id, kind="dispatch")
    assert {message.hospital_id for message in found} == set(consortium.hospitals)
    (digest,) = {message.digest for message in found}
    body = consortium.blobs.get(digest)
    assert RoundInvitation.model_validate_json(body) == opened.invitation


def test_a_repeated_dispatch_creates_no_second_run(consortium: Any, prefect: FakePrefect) -> None:
    opened = consortium.open()
    first = dispatch_training.fn(consortium.coordinator, opened)
    assert dispatch_training.fn(consortium.coordinator, opened) == first
    assert len(prefect.runs) == 3
    assert len(prefect.asked) == 3  # a deployment is looked up once


def test_a_hospital_without_a_deployment_is_named_and_looked_for_again(
    consortium: Any, prefect: FakePrefect
) -> None:
    known = prefect.deployments.pop("hospital-round/north")
    opened = consortium.open()
    with pytest.raises(RoundFailed, match="north has no deployment 'hospital-round/north'"):
        dispatch_training.fn(consortium.coordinator, opened)

    prefect.deployments["hospital-round/north"] = known
    assert set(dispatch_training.fn(consortium.coordinator, opened)) == set(consortium.hospitals)
