"""Every call of a hospital's worker and of its runs is on a list, and each reaches its own alone.

The list is ``hospital_calls.json``, held to what the API's log says after a training. A call that
is new belongs into the gateway's or the exchange's rules first, then into the list. What is marked
``sometimes`` is called in long runs, when a hospital is lost or refuses, or by a command.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.blobs import BlobStore
from db.models import Client, Message, Participation, Training
from db.queries import rounds, trainings
from db.session import transaction

pytestmark = pytest.mark.e2e

OWN: Final = "hospital-1"
OTHER: Final = "hospital-2"
CALLS: Final = json.loads(Path(__file__).with_name("hospital_calls.json").read_text())
# What people, the supervisor and these tests ask the API.
OF_OTHERS: Final = re.compile(
    r"/(health|training|models|metrics|audit|users)\b.*|/hospitals(/join)?"
)
LINE: Final = re.compile(
    r'"(?P<method>[A-Z]+|WebSocket) (?P<path>/[^ ?"]*)[^"]*" (?P<status>\d{3}|\[accepted\])'
)
WHOSE: Final = {
    "work_pools": "{pool}",
    "deployments": "{deployment}",
    "flows": "{flow}",
    "flow_runs": "{run}",
    "rounds": "{round}",
    "weights": "{weights}",
    "hospitals": "{hospital}",
}
KEYS: Final = {"signing_key": "ab" * 32, "sealing_key": "cd" * 32}
BODIES: Final[dict[str, Any]] = {
    "POST get_scheduled_flow_runs": {"limit": 10},
    "POST heartbeat": {"name": f"{OWN}-host"},
    "POST set_state": {"state": {"type": "CRASHED", "name": "Crashed"}, "force": False},
    "PUT identity": KEYS,
    "POST identity": {**KEYS, "signature": "ef" * 64, "proof": "ef" * 64},
    "PUT credential": {"client_secret_sha256": "ab" * 32},
    "POST leave": {},
}
FRAME: Final = b"FMED another hospital's"


def template(path: str) -> str:
    """The path with a name for each id."""
    parts = path.split("/")
    for before, part in enumerate(parts[1:]):
        parts[before + 1] = WHOSE.get(parts[before], part) if part else part
    return "/".join(parts)


def calls_in(log: str) -> set[tuple[str, str, bool]]:
    """Method, path and whether it was refused, of each call that is a hospital's."""
    return {
        (line["method"], template(line["path"]), line["status"] in ("401", "403", "404"))
        for line in LINE.finditer(log)
        if not OF_OTHERS.fullmatch(line["path"])
    }


def listed(*, sometimes: bool) -> set[tuple[str, str, bool]]:
    return {
        (call["method"], call["path"], call.get("refused", False))
        for call in CALLS
        if sometimes or not call.get("sometimes")
    }


def named(call: dict[str, Any]) -> str:
    return f"{call['method']} {call['path']}"


@pytest.fixture(scope="module")
def made(stack: Any, training: dict[str, Any]) -> set[tuple[str, str, bool]]:
    """The calls that were made since the hospitals started, through a whole training."""
    return calls_in((stack.settings.logs / "api.log").read_text())


def test_a_hospital_makes_no_call_that_is_not_listed(made: set[tuple[str, str, bool]]) -> None:
    assert made - listed(sometimes=True) == set()


def test_every_listed_call_is_made(made: set[tuple[str, str, bool]]) -> None:
    assert listed(sometimes=False) - made == set()


def test_a_run_says_that_it_runs_and_how_it_ended_and_nothing_else(
    stack: Any, training: dict[str, Any]
) -> None:
    ids = [run["id"] for run in stack.runs_of(training["training_id"])]
    assert ids
    for run_id in ids:
        states = stack.prefect.get("/flow_run_states/", flow_run_id=run_id)
        assert [state["name"] for state in states] == ["Scheduled", "Running", "Completed"]
    assert stack.prefect.rows("logs", logs={"flow_run_id": {"any_": ids}}) == []


@dataclass(frozen=True, slots=True)
class Others:
    """What is another hospital's, by the names of the templates."""

    ids: dict[str, str]
    anyone: httpx.Client
    own: httpx.Client
    other: httpx.Client

    def ask(self, client: httpx.Client, call: dict[str, Any]) -> httpx.Response:
        path = call["path"].format(**self.ids)
        match call["method"], path.rsplit("/", 1)[-1]:
            case method, last if (body := BODIES.get(f"{method} {last}")) is not None:
                return client.request(method, path, json=body)
            case "POST", "token":
                return client.post(path, data=self._borrowed())
            case "PUT", "refusal":
                return client.put(path, json={"code": "stopped", "reason": "in its name"})
            case "PUT", _:
                return client.put(path, content=FRAME)
            case "GET", _:
                return client.get(path)
            case "WebSocket", _:
                return client.get(path, headers=HANDSHAKE)
        raise AssertionError(f"no body for {call}: add one to BODIES")

    def _borrowed(self) -> dict[str, str]:
        """The other's name with a secret that is not the other's."""
        return {
            "grant_type": "client_credentials",
            "client_id": OTHER,
            "client_secret": self.ids["secret"],
        }


HANDSHAKE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "prefect",
}


@pytest.fixture(scope="module")
def foreign_round(stack: Any, training: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """An open round of the two others, with weights of its own; its id and their digest."""
    weights = b"weights of a round that hospital-1 is not invited to"
    digest = hashlib.sha256(weights).hexdigest()
    blobs, engine = BlobStore(stack.settings.artifacts_url), stack.database("fedmed")
    assert blobs.put(weights) == digest
    now = datetime.now(UTC)
    with transaction(engine) as session:
        like = session.get_one(Training, training["training_id"])
        columns = ("model_id", "strategy", "plan", "epsilon", "delta", "least_cohort")
        added = trainings.add_training(
            session,
            **{name: getattr(like, name) for name in columns},
            rounds=1,
            round_deadline_s=60.0,
            requested_by="test",
        )
        (opened,) = rounds.list_rounds(session, added.id)
        opened.state, opened.opened_at, opened.incoming_weights = "open", now, digest
        session.flush()
        for index, hospital_id in enumerate((OTHER, "hospital-3"), start=1):
            session.add(
                Participation(
                    round_id=opened.id, hospital_id=hospital_id, index=index, invited_at=now
                )
            )
        training_id, round_id = added.id, opened.id
    yield str(round_id), digest
    with transaction(engine) as session:
        trainings.close_training(
            session, training_id=training_id, state="failed", reason="over", now=now
        )


@pytest.fixture(scope="module")
def others(stack: Any, intruder: Any, foreign_round: tuple[str, str]) -> Iterator[Others]:
    """Hospital-2's objects; its run waits until tomorrow."""
    round_id, digest = foreign_round
    own_secret = json.loads(
        (stack.site(OWN).hospital_home / "keys" / "credential.json").read_text()
    )["client_secret"]
    ids = {
        "pool": OTHER,
        "deployment": intruder.ids["other"],
        "flow": intruder.ids["flow"],
        "run": intruder.ids["foreign"],
        "round": round_id,
        "weights": digest,
        "hospital": OTHER,
        "secret": own_secret,
    }
    with (
        httpx.Client(base_url=stack.settings.api_url, trust_env=False) as anyone,
        stack.signed_in(OWN) as own,
        stack.signed_in(OTHER) as other,
    ):
        yield Others(ids, anyone, own, other)


def seen(stack: Any, others: Others) -> dict[str, Any]:
    """All that the calls could have changed at the other hospital."""
    deployment = stack.prefect.get(f"/deployments/{others.ids['deployment']}")
    with Session(stack.database("fedmed")) as session:
        participations = session.scalars(
            select(Participation).where(Participation.round_id == others.ids["round"])
        )
        messages = session.scalars(
            select(Message).where(Message.round_id == others.ids["round"])
        ).all()
        found = {p.hospital_id: p.state for p in participations}
        secrets = {c.hospital_id: c.generation for c in session.scalars(select(Client))}
    keys = {h["hospital_id"]: (h["signing_key"], h["state"]) for h in stack.api.get("/hospitals")}
    workers = stack.prefect.call("POST", f"/work_pools/{OTHER}/workers/filter", json={})
    run = stack.prefect.get(f"/flow_runs/{others.ids['run']}")
    return {
        "run": {
            name: run[name] for name in ("state_id", "labels", "infrastructure_pid", "updated")
        },
        "deployment": deployment["updated"],
        "participations": found,
        "messages": len(messages),
        "keys": keys,
        "secrets": secrets,
        "workers": {worker["name"] for worker in workers},
    }


OF_SOMEBODY: Final = [call for call in CALLS if "{" in call["path"]]


@pytest.mark.parametrize("call", OF_SOMEBODY, ids=named)
def test_a_hospital_s_call_for_another_is_denied_and_changes_nothing(
    stack: Any, others: Others, call: dict[str, Any]
) -> None:
    before = seen(stack, others)
    answer = others.ask(others.own, call)
    assert answer.status_code in (403, 404), answer.text
    assert seen(stack, others) == before


@pytest.mark.parametrize("call", CALLS, ids=named)
def test_without_a_hospital_s_token_every_call_is_denied(
    stack: Any, others: Others, call: dict[str, Any]
) -> None:
    before = seen(stack, others)
    # A socket that is not listed is refused before its token is looked at.
    denied = 403 if call.get("refused") else 401
    assert others.ask(others.anyone, call).status_code == denied
    assert seen(stack, others) == before


def test_the_other_may_read_what_is_its_own(others: Others) -> None:
    """Otherwise the denials above would show nothing."""
    for path in (
        "/prefect/api/work_pools/{pool}",
        "/prefect/api/deployments/{deployment}",
        "/prefect/api/flow_runs/{run}",
        "/exchange/weights/{weights}",
        "/exchange/rounds/{round}/cohort",
    ):
        assert others.other.get(path.format(**others.ids)).is_success, path


def test_nobody_says_who_the_caller_is_but_the_token(others: Others) -> None:
    """A round's messages have no field for a hospital; headers and queries make none."""
    path = f"/exchange/rounds/{others.ids['round']}/cohort"
    claims = {"hospital_id": OTHER, "client_id": OTHER}
    headers = {"X-Hospital-Id": OTHER, "X-Forwarded-User": OTHER}
    assert others.own.get(path, params=claims, headers=headers).status_code == 404
    unknown = others.own.get(f"/exchange/rounds/{uuid4()}/cohort")
    denied = others.own.get(path)
    said = [a.text.replace(str(a.url).split("/")[-2], "") for a in (unknown, denied)]
    assert said[0] == said[1]
