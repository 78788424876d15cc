"""The whole stack, started as a user would: one for most of the suite, others by the command line.

The shared stack runs three hospitals on the demo's data and has one training of three rounds behind
it. Tests of the command line come last, when it has ended: two stacks are too much for a small
machine.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

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
from tasks.hospital.site import SiteSettings, read_credential
from tasks.hospital.tokens import HospitalAuth

HOSPITALS: Final = 3
ROUNDS: Final = 3
_FINAL: Final = ("completed", "failed", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_ORDER: Final = (
    # On the shared stack, the first when nothing but a training has happened there.
    *("test_training", "test_recorded_calls", "test_gateway_attacks"),
    *(
        "test_gateway_forgeries",
        "test_privacy",
        "test_secrets",
        "test_bad_data",
        "test_hostile_server",
        "test_lost_run",
    ),
    *("test_hospital_command", "test_losses", "test_membership", "test_namespaces", "test_demo"),
)
_OURS: Final = ("FEDMED_", "PREFECT_", "MLFLOW_")
_PORTS: Final = ("FEDMED_PREFECT_PORT", "FEDMED_MLFLOW_PORT", "FEDMED_API_PORT")

T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules of this folder in their order, after all others."""
    here = Path(__file__).parent
    items.sort(key=lambda i: _ORDER.index(i.path.stem) if here in i.path.parents else -1)


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


def _works_in(process: psutil.Process, home: Path) -> bool:
    try:
        # PostgreSQL writes over its environment, and works in its data directory.
        told, folder = process.environ().get("FEDMED_HOME"), Path(process.cwd())
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return False  # gone, or another user's
    return told == str(home) or home in folder.parents


@dataclass(frozen=True, slots=True)
class Home:
    """An empty state directory with a short path, and the environment that names it."""

    path: Path
    environment: Mapping[str, str]

    def processes(self) -> list[psutil.Process]:
        """Every process that was told to work here, or does."""
        return [
            process for process in psutil.process_iter(["name"]) if _works_in(process, self.path)
        ]


@contextmanager
def a_home() -> Iterator[Home]:
    """Makes a home with three free ports; whatever still works in it at the end is killed."""
    with tempfile.TemporaryDirectory(prefix="fedmed-e2e-") as folder:
        path = Path(folder).resolve() / "home"
        inherited = {n: value for n, value in os.environ.items() if not n.startswith(_OURS)}
        ports = zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True)
        home = Home(path, {**inherited, **dict(ports), "FEDMED_HOME": str(path)})
        try:
            yield home
        finally:
            left = home.processes()
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=10)


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listened a moment ago."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
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
        asked = TrainingRequest(model=demo_model().name, **request)

        def look() -> str | None:
            try:
                return str(self.operator.start_training(asked)["training_id"])
            except ApiRefused as error:
                if not error.problem_type.endswith("too-few-hospitals"):
                    raise
                return None

        return wait_until(look, deadline_s=60, every_s=0.2)

    def ended(self, training_id: str) -> dict[str, Any]:
        """Returns a training with its rounds once it has ended."""
        asked = partial(self.operator.training, training_id)
        return wait_until(lambda: _over(asked(), "state"), deadline_s=120)

    def train(self, **request: Any) -> dict[str, Any]:
        return self.ended(self.start(**request))

    def runs_of(self, training_id: str) -> list[dict[str, Any]]:
        """The hospitals' Prefect runs of a training."""
        tagged = {"tags": {"all_": [f"training:{training_id}"]}}
        return self.prefect.rows("flow_runs", flow_runs=tagged)

    def run_ended(self, run_id: str) -> dict[str, Any]:
        """Returns a Prefect run once it has ended."""
        asked = partial(self.prefect.get, f"/flow_runs/{run_id}")
        return wait_until(lambda: _over(asked(), "state_type"), deadline_s=60)

    def table(self, hospital_id: str) -> Path:
        return self.folders[hospital_id] / "table.csv"

    def site(self, hospital_id: str) -> SiteSettings:
        return self.settings.site(hospital_id, self.folders[hospital_id])

    def signed_in(self, hospital_id: str) -> httpx.Client:
        """A client of the API with a hospital's own token, by the credential on its disk."""
        site = self.site(hospital_id)
        auth = HospitalAuth(site.api_url, partial(read_credential, site))
        return site.way.client(timeout=httpx.Timeout(30), auth=auth)

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


def _over(found: dict[str, Any], state: str) -> dict[str, Any] | None:
    return found if found[state] in _FINAL else None


@contextmanager
def a_running_stack(*, hospitals: int = HOSPITALS) -> Iterator[Stack]:
    with ExitStack() as open_things:
        home = open_things.enter_context(a_home())
        environment = {**home.environment, "FEDMED_ACCESS_LOG": "true"}
        with patch.dict(os.environ, environment, clear=True):
            settings = StackSettings()
            folders = deal_out(home.path / "demo" / "data", hospitals=hospitals, seed=0)
            running = open_things.enter_context(
                control.attached(settings, hospitals=folders, progress=lambda event: None)
            )

        def rest(url: str, **signed_in: Any) -> Rest:
            client = httpx.Client(base_url=url, timeout=30, trust_env=False, **signed_in)
            return Rest(open_things.enter_context(client))

        api = rest(settings.api_url)
        by_password = OperatorClient(api.client, settings.secrets / "operator.json")
        operator = open_things.enter_context(by_password)
        operator.add_model(demo_model())
        user, _, password = (prefect_secret(settings) or "").partition(":")
        yield Stack(
            settings=settings,
            environment=home.environment,
            state=running.state,
            folders=folders,
            operator=operator,
            api=api,
            prefect=rest(settings.prefect_api_url, auth=(user, password)),
            mlflow=rest(f"{settings.mlflow_url}/api/2.0/mlflow"),
        )


@pytest.fixture(scope="session")
def _running() -> Iterator[ExitStack]:
    """What keeps the one stack running that runs."""
    with ExitStack() as running:
        yield running


@pytest.fixture(scope="session")
def _started(_running: ExitStack) -> Stack:
    return _running.enter_context(a_running_stack())


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


@pytest.fixture(scope="session")
def five(_running: ExitStack) -> Stack:
    """A stack of five hospitals, of which a round can do without one."""
    _running.close()
    return _running.enter_context(a_running_stack(hospitals=5))


@pytest.fixture(scope="module")
def home(_running: ExitStack) -> Iterator[Home]:
    """A state directory for the command line, after all stacks have ended."""
    _running.close()
    with a_home() as made:
        yield made


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    return wait_until
