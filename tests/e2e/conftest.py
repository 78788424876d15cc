"""The whole stack, started as a user would: one for most of the suite, others by the command line.

The shared stack runs three hospitals on the demo's data and has one training of three rounds behind
it. Tests of the command line come last, when it has ended: two stacks are too much for a small
machine.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import psutil
import pytest
import tenacity
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from db.embedded import running_embedded
from deployments.demo_data import deal_out, demo_model
from deployments.errors import ApiRefused
from deployments.operator import OperatorClient
from deployments.settings import LOOPBACK, StackSettings
from deployments.stack import control
from deployments.stack.prefect_secret import prefect_secret
from deployments.stack.state import StackState
from fl.spec import TrainingRequest

HOSPITALS: Final = 3
ROUNDS: Final = 3
_FINAL: Final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_ORDER: Final = (
    *("test_training", "test_privacy", "test_secrets", "test_bad_data", "test_hostile_server"),
    *("test_lost_run", "test_hospital_command", "test_losses", "test_demo"),
)
_PORTS: Final = ("FEDMED_PREFECT_PORT", "FEDMED_MLFLOW_PORT", "FEDMED_API_PORT")

T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules of this folder in their order, the command line's last."""
    places = [
        place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent
    ]
    ordered = sorted((items[place] for place in places), key=lambda i: _ORDER.index(i.path.stem))
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def wait_until(look: Callable[[], T | None], *, deadline_s: float, every_s: float = 0.1) -> T:
    """Looks until it sees something true and returns that."""

    def give_up(state: tenacity.RetryCallState) -> T:
        raise AssertionError(f"not within {deadline_s:.0f} s; seen last: {state.outcome}")

    return tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda seen: not seen),
        wait=tenacity.wait_fixed(every_s),
        stop=tenacity.stop_after_delay(deadline_s),
        retry_error_callback=give_up,
    )(look)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was told to work in a state directory, or does."""
    return [process for process in psutil.process_iter(["name"]) if _works_in(process, home)]


def _works_in(process: psutil.Process, home: Path) -> bool:
    try:
        # PostgreSQL writes over its environment, and works in its data directory.
        return (
            process.environ().get("FEDMED_HOME") == str(home) or home in Path(process.cwd()).parents
        )
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return False  # gone, or another user's


@dataclass(frozen=True, slots=True)
class Home:
    """An empty state directory with a short path, and the environment that names it."""

    path: Path
    environment: Mapping[str, str]

    def processes(self) -> list[psutil.Process]:
        return processes_of(self.path)


@contextmanager
def a_home() -> Iterator[Home]:
    """Makes a home with three free ports; whatever still works in it at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="fedmed-e2e-") as folder:
        path = Path(folder).resolve() / "home"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FEDMED_", "PREFECT_", "MLFLOW_"))
        }
        ports = zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True)
        try:
            yield Home(path, {**inherited, **dict(ports), "FEDMED_HOME": str(path)})
        finally:
            left = processes_of(path)
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=10)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listened a moment ago."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(closing(socket.socket())) for _ in range(count)]
        for probe in sockets:
            probe.bind((LOOPBACK, 0))
        return [probe.getsockname()[1] for probe in sockets]


@dataclass(frozen=True, slots=True)
class Rest:
    """A server's REST API."""

    client: httpx.Client

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self.client.request(method, path, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def get(self, path: str, /, **params: Any) -> Any:
        return self.call("GET", path, params=params)

    def rows(self, kind: str, **filters: Any) -> list[dict[str, Any]]:
        """All rows that Prefect's filter of a kind finds, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            body = {**filters, "limit": 200, "offset": len(found)}
            page = self.call("POST", f"/{kind}/filter", json=body)
            found += page
            if len(page) < 200:
                return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The running stack, its clients and what lies on its disk."""

    settings: StackSettings
    environment: Mapping[str, str]
    state: StackState
    folders: Mapping[str, Path]
    operator: OperatorClient
    api: Rest
    prefect: Rest
    mlflow: Rest

    def start(self, **request: Any) -> str:
        """Starts a training as soon as the hospitals have published their keys."""
        started = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_hospitals_are_coming),
            wait=tenacity.wait_fixed(0.2),
            stop=tenacity.stop_after_delay(60),
            reraise=True,
        )(
            self.operator.start_training,
            TrainingRequest(model=demo_model().name, **request),
        )
        return str(started["training_id"])

    def ended(self, training_id: str) -> dict[str, Any]:
        """Returns a training with its rounds once it has ended."""

        def look() -> dict[str, Any] | None:
            training = self.operator.training(training_id)
            return training if training["state"] in ("completed", "failed") else None

        return wait_until(look, deadline_s=120)

    def train(self, **request: Any) -> dict[str, Any]:
        return self.ended(self.start(**request))

    def runs_of(self, training_id: str) -> list[dict[str, Any]]:
        """The hospitals' Prefect runs of a training."""
        tagged = {"tags": {"all_": [f"training:{training_id}"]}}
        return self.prefect.rows("flow_runs", flow_runs=tagged)

    def run_ended(self, run_id: str) -> dict[str, Any]:
        """Returns a Prefect run once it has ended."""

        def look() -> dict[str, Any] | None:
            run = self.prefect.get(f"/flow_runs/{run_id}")
            return run if run["state_type"] in _FINAL else None

        return wait_until(look, deadline_s=60)

    def table(self, hospital_id: str) -> Path:
        return self.folders[hospital_id] / "table.csv"

    def database(self, name: str) -> Engine:
        server = running_embedded(self.settings.home / "postgres")
        assert server is not None
        return create_engine(server.url(name), poolclass=NullPool)

    def hospital_process(self, hospital_id: str) -> psutil.Process:
        """The process of a hospital's worker; the hospitals were forked in their order."""
        group = psutil.Process(self.state.services["hospitals"].pid)
        workers = sorted(group.children(), key=lambda worker: (worker.create_time(), worker.pid))
        assert len(workers) == len(self.state.hospitals)
        return workers[self.state.hospitals.index(hospital_id)]


def _hospitals_are_coming(error: BaseException) -> bool:
    return isinstance(error, ApiRefused) and error.problem_type.endswith("too-few-hospitals")


@contextmanager
def a_running_stack(*, hospitals: int = HOSPITALS) -> Iterator[Stack]:
    with ExitStack() as open_things:
        home = open_things.enter_context(a_home())
        with pytest.MonkeyPatch.context() as environment:
            for name in [name for name in os.environ if name not in home.environment]:
                environment.delenv(name)
            for name, value in home.environment.items():
                environment.setenv(name, value)
            settings = StackSettings()
            data = home.path / "demo" / "data"
            folders = deal_out(data, hospitals=hospitals, seed=0)
            running = open_things.enter_context(
                control.attached(settings, hospitals=folders, progress=lambda event: None)
            )

        def rest(url: str, **headers: str) -> Rest:
            client = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
            return Rest(open_things.enter_context(client))

        operator = open_things.enter_context(OperatorClient.connect(settings))
        operator.add_model(demo_model())
        yield Stack(
            settings=settings,
            environment=home.environment,
            state=running.state,
            folders=folders,
            operator=operator,
            api=rest(settings.api_url, Authorization=f"Bearer {_operator_token(settings)}"),
            prefect=rest(settings.prefect_api_url, Authorization=_prefect_authorization(settings)),
            mlflow=rest(f"{settings.mlflow_url}/api/2.0/mlflow"),
        )


def _prefect_authorization(settings: StackSettings) -> str:
    secret = prefect_secret(settings)
    assert secret is not None
    return f"Basic {base64.b64encode(secret.encode()).decode()}"


def _operator_token(settings: StackSettings) -> str:
    grant = json.loads((settings.secrets / "operator.json").read_bytes())
    answer = httpx.post(
        f"{settings.api_url}/oauth/token",
        data={"grant_type": "password", **grant},
        timeout=30,
        trust_env=False,
    )
    return str(answer.raise_for_status().json()["access_token"])


@pytest.fixture(scope="session")
def _shared() -> Iterator[ExitStack]:
    """What keeps the shared stack running."""
    with ExitStack() as running:
        yield running


@pytest.fixture(scope="session")
def _started(_shared: ExitStack) -> Stack:
    return _shared.enter_context(a_running_stack())


@pytest.fixture(scope="session")
def training(_started: Stack) -> dict[str, Any]:
    """The first training of the shared stack: three rounds, ended."""
    training = _started.train(rounds=ROUNDS)
    _started.run_ended(training["flow_run_id"])  # a moment after the training itself
    return training


@pytest.fixture(scope="session")
def stack(_started: Stack, training: dict[str, Any]) -> Stack:
    """The shared stack, with that training behind it."""
    return _started


@pytest.fixture(scope="module")
def five(_shared: ExitStack) -> Iterator[Stack]:
    """A stack of five hospitals, of which a round can do without one."""
    _shared.close()
    with a_running_stack(hospitals=5) as stack:
        yield stack


@pytest.fixture(scope="module")
def home(_shared: ExitStack) -> Iterator[Home]:
    """A state directory for the command line, after the shared stack has ended."""
    _shared.close()
    with a_home() as made:
        yield made


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    return wait_until
