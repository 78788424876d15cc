"""A hospital that means harm, in what it may send: states, results and events of its making."""

from __future__ import annotations

import base64
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from fl.names import GATEWAY_PATH

pytestmark = pytest.mark.e2e

OWN: Final = "hospital-1"
OTHER: Final = "hospital-2"


def test_a_pickle_does_not_arrive_and_an_ended_run_stays_ended(
    stack: Any, intruder: Any, tmp_path: Path
) -> None:
    mark = tmp_path / "unpickled"
    run_id = intruder.ids["run"]
    go = f"/flow_runs/{run_id}/set_state"
    # As after its worker has claimed it; Prefect has a run wait for its time otherwise.
    stack.prefect.call("POST", go, json={"state": {"type": "RUNNING"}, "force": True})
    proposal = {"type": "COMPLETED", "name": "Completed", "data": touching(mark)}
    assert intruder.send("POST", go, {"state": proposal, "force": True}).is_success
    run = stack.prefect.get(f"/flow_runs/{run_id}")
    assert (run["state_type"], run["state"]["data"]) == ("COMPLETED", None)
    assert not mark.exists()
    for again in ("RUNNING", "PENDING", "FAILED"):
        for force in (False, True):
            answer = intruder.send("POST", go, {"state": {"type": again}, "force": force})
            assert answer.json()["status"] == "ABORT", answer.text
    revived = intruder.send("POST", go, {"state": {"type": "SCHEDULED"}, "force": True})
    assert revived.status_code == 403
    assert stack.prefect.get(f"/flow_runs/{run_id}")["state_id"] == run["state_id"]


def touching(mark: Path) -> dict[str, Any]:
    """A result of Prefect's that touches a file when somebody loads it."""
    blob = base64.b64encode(pickle.dumps(Touch(mark))).decode()
    return {"type": "unpersisted", "blob": blob, "serializer": {"type": "pickle"}}


@dataclass(frozen=True, slots=True)
class Touch:
    path: Path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_the_pickle_would_touch_its_file(tmp_path: Path) -> None:
    """The control: loaded, as a reader of results loads it, it does."""
    mark = tmp_path / "unpickled"
    pickle.loads(base64.b64decode(touching(mark)["blob"]))  # noqa: S301
    assert mark.exists()


def event(name: str, resource: dict[str, str], *related: dict[str, str]) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": resource,
        "related": list(related),
        "payload": {},
    }


def events_socket(stack: Any, intruder: Any, *, path: str = "/events/in") -> ClientConnection:
    url = stack.settings.api_url.replace("http", "ws") + GATEWAY_PATH + path
    token = intruder.token
    return connect(
        url,
        subprotocols=[Subprotocol("prefect")],
        additional_headers={"Authorization": f"Bearer {token}"},
        proxy=None,
    )


def test_a_forged_event_goes_nowhere(
    stack: Any, intruder: Any, eventually: Callable[..., Any]
) -> None:
    worker = {
        "prefect.resource.id": f"prefect.worker.hospital.{OWN}-host",
        "prefect.resource.name": f"{OWN}-host",
    }
    other = {**worker, "prefect.resource.id": f"prefect.worker.hospital.{OTHER}-host"}

    def named(kind: str, name: str) -> dict[str, str]:
        resource = f"prefect.{kind}.{intruder.ids[name]}"
        return {"prefect.resource.id": resource, "prefect.resource.role": kind}

    forged = [
        event("prefect.flow-run.Crashed", named("flow-run", "run")),
        event("prefect.flow-run.Completed", named("flow-run", "foreign")),
        event("prefect.deployment.disabled", named("deployment", "other")),
        event("prefect.worker.stopped", other),
        event("prefect.worker.executed-flow-run", worker, named("flow-run", "foreign")),
        event("prefect.worker.executed-flow-run", worker, named("deployment", "other")),
        event("prefect.work-pool.paused", worker),
    ]
    genuine = event("prefect.worker.started", worker)
    for sent in [*forged, genuine]:
        with events_socket(stack, intruder) as socket:
            socket.send(json.dumps({"type": "auth", "token": None}))
            assert json.loads(socket.recv(timeout=10)) == {"type": "auth_success"}
            socket.send(json.dumps(sent))
            if sent is not genuine:
                with pytest.raises(ConnectionClosed, match="1008"):
                    socket.recv(timeout=10)

    def arrived(*sent: dict[str, Any]) -> list[Any]:
        query = {"filter": {"id": {"id": [one["id"] for one in sent]}}}
        found: list[Any] = stack.prefect.call("POST", "/events/filter", json=query)["events"]
        return found

    eventually(lambda: arrived(genuine), deadline_s=15)
    assert arrived(*forged) == []


@pytest.mark.parametrize("path", ["/events/out", "/logs/out", "/runs/subscribe"])
def test_a_hospital_listens_to_nothing_of_others(stack: Any, intruder: Any, path: str) -> None:
    with pytest.raises(InvalidStatus) as denied, events_socket(stack, intruder, path=path):
        pass
    assert denied.value.response.status_code == 403
