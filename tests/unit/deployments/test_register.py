"""What ``prefect.yaml`` declares, and when it is sent to the server."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from prefect import Flow
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import ValidationError

from deployments import register
from deployments.register import (
    COORDINATOR_POOL,
    DeclaredDeployment,
    declared_deployments,
    ensure_pool,
)

DECLARED = {deployment.name: deployment for deployment in declared_deployments()}


def test_both_flows_of_the_coordinator_are_declared_on_its_pool() -> None:
    assert set(DECLARED) == {"federated-training", "federated-round"}
    assert {d.work_pool.name for d in DECLARED.values()} == {COORDINATOR_POOL}
    assert all(d.description and d.tags == ["coordinator"] for d in DECLARED.values())


@pytest.mark.parametrize("name", DECLARED)
def test_an_entrypoint_is_a_flow_of_that_name(name: str) -> None:
    module, _, attribute = DECLARED[name].entrypoint.rpartition(".")
    flow = getattr(import_module(module), attribute)
    assert isinstance(flow, Flow)
    assert flow.name == name


def test_the_nightly_schedule_is_declared_and_off() -> None:
    (nightly,) = DECLARED["federated-round"].schedules
    created = nightly.create()
    assert (nightly.slug, created.active) == ("nightly", False)
    assert (created.schedule.cron, created.schedule.timezone) == ("0 2 * * *", "UTC")
    assert DECLARED["federated-training"].schedules == ()


def test_scheduled_rounds_run_one_at_a_time() -> None:
    limit = DECLARED["federated-round"].concurrency_limit
    assert limit == {"limit": 1, "collision_strategy": "ENQUEUE"}


GOOD = """
deployments:
  - name: a
    description: d
    entrypoint: m.f
    work_pool: {name: p}
"""


@pytest.mark.parametrize(
    ("text", "error", "why"),
    [
        (GOOD.replace("name: a", "nome: a"), ValidationError, "nome"),
        (GOOD.replace("work_pool: {name: p}", ""), ValidationError, "work_pool"),
        (GOOD.replace("description: d", "description: [d]"), ValidationError, "description"),
        (GOOD + "    schedules: [{cron: '* * * * *'}]\n", ValidationError, "timezone"),
        ("deployments: [", yaml.YAMLError, "expected"),
        ("name: x\n", KeyError, "deployments"),
    ],
)
def test_a_file_that_declares_nothing_usable_is_refused_and_says_what_is_wrong(
    tmp_path: Path, text: str, error: type[Exception], why: str
) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(error, match=why):
        declared_deployments(path)


def test_a_minimal_declaration_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(GOOD)
    (declared,) = declared_deployments(path)
    assert (declared.tags, declared.schedules, declared.concurrency_limit) == ([], (), None)


class Server:
    """As much of Prefect's client as is called; ``tests/e2e`` has the real one."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.pools: list[Any] = []
        self.failures: list[Exception] = []

    async def read_deployment_by_name(self, name: str) -> Any:
        if name not in self.known:
            raise ObjectNotFound(httpx.HTTPError("404"))
        return SimpleNamespace(version=self.known[name])

    async def create_work_pool(self, pool: Any) -> None:
        if self.pools:
            raise ObjectAlreadyExists(httpx.HTTPError("409"))
        self.pools.append(pool)

    async def api_healthcheck(self) -> Exception | None:
        return self.failures.pop(0) if self.failures else None


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[RunnerDeployment]:
    sent: list[RunnerDeployment] = []

    async def apply(self: RunnerDeployment) -> None:
        sent.append(self)

    monkeypatch.setattr(RunnerDeployment, "aapply", apply)
    return sent


@pytest.mark.anyio
async def test_a_deployment_is_sent_as_it_is_declared(applied: list[RunnerDeployment]) -> None:
    declared = DECLARED["federated-round"]
    server: Any = Server()
    await register.register(server, declared)
    (sent,) = applied
    assert (sent.name, sent.flow_name, sent.work_pool_name) == (
        "federated-round",
        "federated-round",
        COORDINATOR_POOL,
    )
    assert sent.concurrency_limit == 1
    assert [schedule.active for schedule in sent.schedules or ()] == [False]
    assert sent.version is not None
    assert len(sent.version) == 16


@pytest.mark.anyio
async def test_a_deployment_is_left_alone_until_its_declaration_changes(
    applied: list[RunnerDeployment],
) -> None:
    """So that a schedule which a person has switched on stays on when the stack starts again."""
    declared = DECLARED["federated-round"]
    await register.register(Server(), declared)  # type: ignore[arg-type]
    version = str(applied[0].version)
    server: Any = Server(**{"federated-round/federated-round": version})
    await register.register(server, declared)
    assert len(applied) == 1

    changed = declared.model_copy(update={"description": "other"})
    await register.register(server, changed)
    assert len(applied) == 2
    assert applied[1].version != version


@pytest.mark.anyio
async def test_the_pool_is_made_once() -> None:
    server: Any = Server()
    await ensure_pool(server)
    await ensure_pool(server)
    (pool,) = server.pools
    assert (pool.name, pool.type) == (COORDINATOR_POOL, "process")


@pytest.mark.anyio
async def test_a_server_that_is_still_starting_is_waited_for() -> None:
    server: Any = Server()
    server.failures = [httpx.ConnectError("nobody there")]
    await register.await_server(server)
    assert server.failures == []


@pytest.mark.anyio
async def test_an_answer_that_waiting_does_not_mend_is_raised() -> None:
    server: Any = Server()
    server.failures = [ValueError("not Prefect")]
    with pytest.raises(ValueError, match="not Prefect"):
        await register.await_server(server)


@pytest.mark.anyio
async def test_only_after_a_stop_is_what_was_left_half_done_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    class Client(Server):
        async def __aenter__(self) -> Client:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

    async def cancel(client: Any) -> None:
        done.append("runs")

    async def registered(client: Any, declared: DeclaredDeployment) -> None:
        done.append(declared.name)

    monkeypatch.setattr(register, "get_client", Client)
    monkeypatch.setattr(register, "connect", lambda settings: None)
    monkeypatch.setattr(register, "DatabaseSettings", lambda: None)
    monkeypatch.setattr(
        register, "end_interrupted_trainings", lambda engine, *, now: done.append("trainings")
    )
    monkeypatch.setattr(register, "cancel_interrupted_runs", cancel)
    monkeypatch.setattr(register, "register", registered)

    await register.main(after_stop=False)
    assert done == list(DECLARED)
    done.clear()
    await register.main(after_stop=True)
    assert done == ["trainings", "runs", *DECLARED]
