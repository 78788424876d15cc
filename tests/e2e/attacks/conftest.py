"""A hospital that means harm: its own genuine token, and what it has come to know of others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fl.names import GATEWAY_PATH

OWN: Final = "hospital-1"
OTHER: Final = "hospital-2"
STEP: Final = "prefect.deployments.steps.run_shell_script"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intruder:
    """Hospital-1 at the gateway.

    Attributes:
        client: signs in as hospital-1, from the credential on its disk.
        ids: what it knows, by name: ``own``, ``other``, ``training`` and ``evil`` are deployments,
            ``run`` and ``foreign`` runs of its own and of hospital-2 that wait until tomorrow.
        mark: the file that the deployment ``evil`` touches.
    """

    client: httpx.Client
    ids: Mapping[str, str]
    mark: Path

    @property
    def token(self) -> str:
        self.client.get("/exchange/roster").raise_for_status()
        return str(self.client.auth.token.value)  # type: ignore[union-attr]

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Calls the gateway; names in braces, in path and body, are those of ``ids``."""
        content = None if body is None else json.dumps(body)
        for name, value in self.ids.items():
            path = path.replace(f"{{{name}}}", value)
            content = content and content.replace(f"{{{name}}}", value)
        json_body = {"Content-Type": "application/json"}
        return self.client.request(method, GATEWAY_PATH + path, content=content, headers=json_body)


@pytest.fixture(scope="session")
def intruder(
    stack: Any, training: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Intruder]:
    folder = tmp_path_factory.mktemp("evil")
    mark = folder / "touched"
    parameters = stack.runs_of(training["training_id"])[0]["parameters"]

    def named(name: str) -> str:
        return str(stack.prefect.get(f"/deployments/name/{name}")["id"])

    own, other = named(f"hospital-round/{OWN}"), named(f"hospital-round/{OTHER}")
    foreign = waiting_run(stack, other, parameters)
    ids = {
        "own": own,
        "other": other,
        "run": waiting_run(stack, own, parameters),
        "foreign": foreign,
        "FOREIGN": foreign.upper(),
        "pool": OWN,
        "other_pool": OTHER,
        "flow": stack.prefect.get("/flows/name/federated-training")["id"],
        "training": named("federated-training/federated-training"),
        "evil": evil_deployment(stack, folder, mark),
        "mark": str(mark),
    }
    with stack.signed_in(OWN) as client:
        yield Intruder(client=client, ids=ids, mark=mark)


def waiting_run(stack: Any, deployment_id: str, parameters: dict[str, Any]) -> str:
    """A run that nobody is handed before tomorrow."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": tomorrow}}
    path = f"/deployments/{deployment_id}/create_flow_run"
    run = stack.prefect.call("POST", path, json={"state": state, "parameters": parameters})
    return str(run["id"])


def evil_deployment(stack: Any, folder: Path, mark: Path) -> str:
    """A deployment of the coordinator's pool that runs a command, as its owner could make one."""
    (folder / "evil.py").write_text("from prefect import flow\n\n@flow\ndef evil():\n    pass\n")
    body = {
        "name": "evil",
        "flow_id": stack.prefect.call("POST", "/flows/", json={"name": "evil"})["id"],
        "work_pool_name": "coordinator",
        "path": str(folder),
        "entrypoint": "evil.py:evil",
        "pull_steps": [
            {STEP: {"script": f"touch {mark}"}},
            {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}},
        ],
    }
    return str(stack.prefect.call("POST", "/deployments/", json=body)["id"])
