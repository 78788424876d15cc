"""The operator's client of the API, against a transport that answers as the API does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.demo_data import demo_model
from deployments.errors import ApiRefused, OperatorError
from deployments.operator import OperatorClient
from deployments.settings import StackSettings
from fl.joining import new_join_code
from fl.spec import TrainingRequest
from privacy.plan import PrivacyRequest
from tasks.hospital.site import credential_file, open_site, read_credential
from tasks.hospital.site_file import read_site_file

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "operator.json"
    path.write_text(json.dumps({"username": "operator", "password": "pw"}))
    return path


def operator(answer: Answer, password_file: Path) -> tuple[OperatorClient, list[httpx.Request]]:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/oauth/token":
            return httpx.Response(200, json={"access_token": "t"})
        return answer(request)

    http = httpx.Client(transport=httpx.MockTransport(handle), base_url="http://api")
    return OperatorClient(http, password_file), seen


def test_it_signs_in_with_the_password_of_the_first_start(password_file: Path) -> None:
    client, seen = operator(lambda _: httpx.Response(200, json={"state": "open"}), password_file)
    with client as signed_in:
        assert signed_in.training_status("t-1") == {"state": "open"}
        assert signed_in.training("t-1") == {"state": "open"}
    assert b"username=operator&password=pw" in seen[0].content
    assert [r.url.path for r in seen[1:]] == ["/training/status/t-1", "/training/t-1"]
    assert {r.headers["authorization"] for r in seen[1:]} == {"Bearer t"}


def test_without_a_password_it_is_said_what_makes_one(tmp_path: Path) -> None:
    client, seen = operator(lambda _: httpx.Response(200), tmp_path / "none.json")
    with pytest.raises(OperatorError, match=r"no operator password at .*`fedmed up`"), client:
        pass
    assert seen == []


def test_a_stack_that_does_not_answer_is_said_in_one_line(settings: StackSettings) -> None:
    settings.secrets.mkdir(parents=True)
    (settings.secrets / "operator.json").write_text('{"username": "operator", "password": "pw"}')
    unreachable = settings.model_copy(update={"api_port": 1})
    with (
        pytest.raises(OperatorError, match=r"http://127\.0\.0\.1:1/? does not answer") as failed,
        OperatorClient.connect(unreachable),
    ):
        pass
    assert "fedmed up" in str(failed.value)
    assert "\n" not in str(failed.value)


class Members:
    """The coordinator's hospitals; it answers what joining asks."""

    def __init__(self, **states: str) -> None:
        self.states = states
        self.code = new_join_code()
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "GET", "/hospitals":
                known = [{"hospital_id": h, "state": s} for h, s in self.states.items()]
                return httpx.Response(200, json=known)
            case "POST", "/hospitals":
                self.bodies.append(json.loads(request.content))
                if "north" in self.states and not self.bodies[-1]["again"]:
                    problem = {"type": "/problems/already-exists", "detail": "it is there"}
                    return httpx.Response(409, json=problem)
                return httpx.Response(201, json={"join_code": self.code})
            case "POST", "/hospitals/join":
                self.bodies.append(json.loads(request.content))
                joined = {"hospital_id": "north", "client_id": "north", "name": "north"}
                return httpx.Response(200, json=joined)
        raise AssertionError(request.url.path)


@pytest.mark.parametrize("known", [{}, {"north": "invited"}])
def test_a_hospital_that_nobody_is_asked_about_is_invited_and_joins_once(
    settings: StackSettings, password_file: Path, tmp_path: Path, known: dict[str, str]
) -> None:
    members = Members(**known)
    client, _ = operator(members, password_file)
    site = settings.site("north", tmp_path)
    with client:
        client.add_hospital(site)
        client.add_hospital(site)
    invited, joined = members.bodies
    again = known != {}  # stopped between the two
    asked = {"hospital_id": "north", "name": "north", "valid_days": 7, "again": again}
    assert invited == asked
    assert joined["signing_key"] == open_site(site).identity.public.signing_key.hex()
    secret = read_credential(site).client_secret.get_secret_value()
    assert hashlib.sha256(secret.encode()).hexdigest() == joined["client_secret_sha256"]
    found = read_site_file(site.hospital_home)
    assert found is not None
    assert (found.data_path, found.api_url) == (tmp_path, settings.api_url)


def test_a_member_s_keys_are_not_replaced_unasked(
    settings: StackSettings, password_file: Path, tmp_path: Path
) -> None:
    client, _ = operator(Members(north="active"), password_file)
    site = settings.site("north", tmp_path)
    with client, pytest.raises(ApiRefused, match="it is there"):
        client.add_hospital(site)
    assert not credential_file(site).exists()


@pytest.mark.parametrize("status", [201, 409])
def test_a_model_that_is_registered_already_is_no_error(password_file: Path, status: int) -> None:
    client, seen = operator(lambda _: httpx.Response(status, json={}), password_file)
    with client:
        client.add_model(demo_model())
    assert json.loads(seen[-1].content) == demo_model().model_dump(mode="json")


def test_a_public_test_set_is_sent_as_it_is(password_file: Path, tmp_path: Path) -> None:
    answer = httpx.Response(200, json={"version": 2, "public_test": "d" * 64})
    client, seen = operator(lambda _: answer, password_file)
    file = tmp_path / "rows.csv"
    file.write_bytes(b"radius,malignant\n1,0\n")
    with client:
        assert client.put_public_test("m", file)["version"] == 2
    assert (seen[-1].method, seen[-1].url.path) == ("PUT", "/models/m/public-test")
    assert seen[-1].read() == file.read_bytes()


def test_only_what_was_asked_for_is_sent(password_file: Path) -> None:
    """What is left out is for the coordinator's settings to decide."""
    answer = httpx.Response(202, json={"training_id": "t-1"})
    client, seen = operator(lambda _: answer, password_file)
    request = TrainingRequest(model="m", privacy=PrivacyRequest(epsilon=2.0))
    with client:
        assert client.start_training(request) == {"training_id": "t-1"}
    assert json.loads(seen[-1].content) == {"model": "m", "privacy": {"epsilon": 2.0}}


PROBLEM = {
    "type": "/problems/invalid",
    "title": "The request is not valid",
    "detail": "2 fields are wrong",
    "errors": [
        {"field": "rounds", "rule": "ge", "detail": "at least 1"},
        {"field": "model", "rule": "pattern", "detail": "lower case"},
    ],
}


@pytest.mark.parametrize(
    ("answer", "text", "problem_type"),
    [
        (
            httpx.Response(422, json=PROBLEM),
            "2 fields are wrong (rounds: at least 1; model: lower case)",
            "/problems/invalid",
        ),
        (httpx.Response(404, json={"title": "Not found"}), "Not found", "about:blank"),
        (
            httpx.Response(400, json={"error": "x", "error_description": "no grant"}),
            "no grant",
            "about:blank",
        ),
        (httpx.Response(502, text="<html>"), "the API answered 502", "about:blank"),
    ],
)
def test_a_problem_is_one_line_that_names_the_fields(
    password_file: Path, answer: httpx.Response, text: str, problem_type: str
) -> None:
    client, _ = operator(lambda _: answer, password_file)
    with client, pytest.raises(ApiRefused) as refused:
        client.training("t-1")
    assert (str(refused.value), refused.value.problem_type) == (text, problem_type)


def test_no_proxy_of_the_environment_sees_the_token(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    client: Any = OperatorClient.connect(settings)
    assert client._client.trust_env is False
    client._client.close()
