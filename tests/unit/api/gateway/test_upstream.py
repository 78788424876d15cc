"""The calls upstream and what is remembered of them, with a Prefect server made of a function."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from api.errors import Problem
from api.gateway import upstream as module
from api.gateway.own import OwnObjects
from api.gateway.upstream import Upstream, open_transport, passed_headers

pytestmark = pytest.mark.anyio

Answering = Callable[[httpx.Request], httpx.Response]
NORTH = "hospital-north"
SOUTH = "hospital-south"


def prefect(answering: Answering) -> Upstream:
    return Upstream("http://prefect/api/", httpx.MockTransport(answering), secret="user:word")


async def test_the_secret_is_the_gateway_s_whatever_is_passed() -> None:
    seen: list[httpx.Request] = []

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=1, headers={"Set-Cookie": "a=b"})

    upstream = prefect(answering)
    for _ in range(2):
        headers = {"authorization": "Bearer hospital", "accept-encoding": "gzip"}
        await upstream.call("POST", "/logs/", b"[]", headers=headers)
    for request in seen:
        assert request.headers["authorization"] == "Basic dXNlcjp3b3Jk"
        assert request.headers["accept-encoding"] == "identity"
        assert "cookie" not in request.headers
        assert str(request.url) == "http://prefect/api/logs/"


def test_two_headers_of_a_hospital_s_are_passed_on() -> None:
    passed = {"user-agent": "prefect/3.8.8 (API 0.8.4)", "x-prefect-api-version": "0.8.4"}
    dropped = {"authorization": "Bearer x", "cookie": "a", "x-forwarded-for": "1", "host": "h"}
    assert passed_headers({**passed, **dropped}) == passed
    odd = {"user-agent": "curl/8 (API 1)\n", "x-prefect-api-version": "1.2.3\r\nx: y"}
    assert passed_headers(odd) == {}


@pytest.mark.parametrize("status", [200, 201, 204, 400, 404, 409, 422, 429])
async def test_prefect_s_word_about_a_request_is_passed_on(status: int) -> None:
    answer = await prefect(lambda _: httpx.Response(status, content=b"x")).call("GET", "/health")
    assert (answer.status, answer.body) == (status, b"x")


@pytest.mark.parametrize("status", [101, 301, 307, 401, 407, 500, 502, 503])
async def test_what_concerns_the_gateway_alone_is_a_503(status: int) -> None:
    failing = prefect(lambda _: httpx.Response(status, content=b"secret"))
    with pytest.raises(Problem) as failed:
        await failing.call("GET", "/health")
    assert failed.value.status_code == 503
    assert "secret" not in failed.value.detail


async def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(Problem, match="503"):
        await prefect(lambda _: httpx.Response(200, content=b"x" * 101)).call("GET", "/health")


@pytest.mark.parametrize(("method", "attempts"), [("GET", 2), ("POST", 1), ("PATCH", 1)])
async def test_a_read_that_meets_a_closing_connection_is_sent_again(
    method: str, attempts: int
) -> None:
    seen: list[str] = []

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        raise httpx.RemoteProtocolError("closed", request=request)

    with pytest.raises(Problem, match="503"):
        await prefect(answering).call(method, "/flow_runs/x")
    assert seen == [method] * attempts


async def test_nobody_there() -> None:
    async with open_transport() as transport:
        with pytest.raises(Problem, match="503"):
            await Upstream("http://127.0.0.1:1/api", transport).call("GET", "/health")


class Runs:
    """A Prefect server with runs in pools; it counts how often it is asked."""

    def __init__(self, pools: dict[str, str]) -> None:
        self.pools = pools
        self.state = "RUNNING"
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        run_id = request.url.path.rsplit("/", 1)[1]
        if run_id not in self.pools:
            return httpx.Response(404, json={"detail": "no such run"})
        return httpx.Response(
            200, json={"work_pool_name": self.pools[run_id], "state_type": self.state}
        )


async def test_an_own_run_is_asked_for_once() -> None:
    run_id = str(uuid4())
    server = Runs({run_id: NORTH})
    own = OwnObjects(prefect(server))
    assert await own.run(NORTH, run_id) is await own.run(NORTH, run_id)
    assert server.asked == 1


async def test_others_runs_look_like_none_each_time_and_cost_the_same() -> None:
    theirs, nobody_s = str(uuid4()), str(uuid4())
    server = Runs({theirs: SOUTH})
    own = OwnObjects(prefect(server))
    await own.run(SOUTH, theirs)
    answers = []
    for run_id in (theirs, theirs, nobody_s, nobody_s):
        before = server.asked
        with pytest.raises(Problem) as refused:
            await own.run(NORTH, run_id)
        answers.append((server.asked - before, refused.value.detail, refused.value.errors))
    assert len(set(answers)) == 1


async def test_a_run_outside_of_any_pool_is_nobody_s() -> None:
    upstream = prefect(lambda _: httpx.Response(200, json={"work_pool_name": None}))
    with pytest.raises(Problem, match="403"):
        await OwnObjects(upstream).run(NORTH, str(uuid4()))


async def test_no_more_is_remembered_than_was_said() -> None:
    runs = [str(uuid4()) for _ in range(5)]
    server = Runs(dict.fromkeys(runs, NORTH))
    own = OwnObjects(prefect(server), remembered=3)
    for run_id in (*runs, *runs[2:]):
        await own.run(NORTH, run_id)
    assert server.asked == 5
    await own.run(NORTH, runs[0])
    assert server.asked == 6


async def test_an_answer_that_was_on_its_way_does_not_take_a_state_back() -> None:
    run_id = str(uuid4())
    own = OwnObjects(prefect(Runs({run_id: NORTH})))
    run = await own.run(NORTH, run_id)
    run.state = "COMPLETED"
    own.saw_run(NORTH, run_id, "SCHEDULED")
    await own.read_run(NORTH, run_id)
    assert (await own.run(NORTH, run_id)).state == "COMPLETED"
