"""The operator's client of the API, for the command line and the local stack.

    with OperatorClient.connect(settings) as operator:
        operator.start_training(request)

It signs in as the ``operator`` whose password the API wrote at its first start.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import httpx

from deployments.errors import ApiRefused, OperatorError
from deployments.joining import Joining, join
from deployments.local_api import local_transport
from deployments.settings import StackSettings
from fl.joining import parse_join_code
from fl.spec import ModelSpec, TrainingRequest
from tasks.hospital.site import SiteSettings, credential_file

Standing = Literal["suspend", "readmit", "end"]

_TIMEOUT_S: Final = 30.0


class OperatorClient:
    """Speaks to the API with the operator's token."""

    def __init__(self, client: httpx.Client, password_file: Path) -> None:
        self._client = client
        self._password_file = password_file

    @classmethod
    def connect(cls, settings: StackSettings) -> Self:
        """Opens a client for the stack of these settings."""
        client = httpx.Client(
            base_url=settings.local_api_url,
            timeout=_TIMEOUT_S,
            trust_env=False,
            transport=local_transport(settings),
        )
        return cls(client, settings.secrets / "operator.json")

    def __enter__(self) -> Self:
        self._sign_in()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def invite(
        self, name: str, *, hospital_id: str | None, valid_days: int = 7, again: bool = False
    ) -> dict[str, Any]:
        """Invites a hospital; returns its id, its one-time join code and the command with it."""
        body: dict[str, Any] = {"name": name, "valid_days": valid_days, "again": again}
        if hospital_id is not None:
            body["hospital_id"] = hospital_id
        return self._call("POST", "/hospitals", json=body)

    def hospitals(self) -> list[dict[str, Any]]:
        """Returns all hospitals by id."""
        found: list[dict[str, Any]] = _accepted(self._send("GET", "/hospitals")).json()
        return found

    def change_standing(self, hospital_id: str, verb: Standing, **body: str) -> dict[str, Any]:
        """Suspends or readmits a hospital, or ends its membership; returns it."""
        return self._call("POST", f"/hospitals/{hospital_id}/{verb}", json=body)

    def add_hospital(self, settings: SiteSettings) -> None:
        """Invites the hospital and joins it in this process; once only, where nobody is asked.

        Raises:
            ApiRefused: the coordinator knows the hospital, and its credential is not here.
        """
        if credential_file(settings).exists():
            return
        hospital_id = settings.hospital_id
        # Invited before a stop, it is invited again; a member's keys are not replaced unasked.
        known = any(
            h["hospital_id"] == hospital_id and h["state"] == "invited" for h in self.hospitals()
        )
        invited = self.invite(hospital_id, hospital_id=hospital_id, again=known)
        joining = Joining(
            api_url=settings.api_url,
            code=parse_join_code(invited["join_code"]),
            hospitals=settings.hospital_home.parent,
            data_path=settings.data_path,
            ca_file=settings.ca_file,
        )
        join(joining, self._client)

    def add_model(self, spec: ModelSpec) -> None:
        """Registers the model unless this very specification is registered already."""
        response = self._send("POST", "/models", json=spec.model_dump(mode="json"))
        if response.status_code != HTTPStatus.CONFLICT:
            _accepted(response)

    def put_public_test(self, name: str, file: Path) -> dict[str, Any]:
        """Gives the model's newest version a public test set; returns the version."""
        with file.open("rb") as content:
            return self._call("PUT", f"/models/{name}/public-test", content=content)

    def start_training(self, request: TrainingRequest) -> dict[str, Any]:
        """Starts a training; returns its id, its first round's id and its plan."""
        body = request.model_dump(mode="json", exclude_unset=True)
        return self._call("POST", "/training/start", json=body)

    def training_status(self, training_id: str) -> dict[str, Any]:
        """Returns how a training and its latest round stand."""
        return self._call("GET", f"/training/status/{training_id}")

    def training(self, training_id: str) -> dict[str, Any]:
        """Returns a training with its rounds."""
        return self._call("GET", f"/training/{training_id}")

    def users(self) -> list[dict[str, Any]]:
        """Returns the people who may sign in, by name."""
        found: list[dict[str, Any]] = _accepted(self._send("GET", "/users")).json()
        return found

    def add_user(self, username: str, *, role: str) -> dict[str, Any]:
        """Adds a person; returns the generated password."""
        return self._call("POST", "/users", json={"username": username, "role": role})

    def change_user(self, username: str, change: str, **body: str) -> dict[str, Any]:
        """Makes one of the API's changes of a person: ``suspend``, ``resume``, ``role``, …."""
        path = f"/users/{quote(username, safe='')}/{change}"
        return self._call("POST", path, json=body or None)

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body: dict[str, Any] = _accepted(self._send(method, path, **options)).json()
        return body

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise OperatorError(
                f"the API at {self._client.base_url} does not answer ({type(error).__name__}); "
                "`fedmed status` shows the stack, `fedmed up` starts it"
            ) from None

    def _sign_in(self) -> None:
        try:
            operator = json.loads(self._password_file.read_bytes())
        except FileNotFoundError:
            raise OperatorError(
                f"no operator password at {self._password_file}; `fedmed up` makes it at the "
                "first start"
            ) from None
        token = self._call(
            "POST",
            "/oauth/token",
            data={
                "grant_type": "password",
                "username": operator["username"],
                "password": operator["password"],
            },
        )
        self._client.headers["Authorization"] = f"Bearer {token['access_token']}"


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
    except ValueError:
        raise ApiRefused(f"the API answered {response.status_code}") from None
    detail = problem.get("detail") or problem.get("error_description") or problem.get("title")
    fields = "; ".join(
        f"{error['field']}: {error['detail']}"
        for error in problem.get("errors", ())
        if error["detail"] != detail
    )
    raise ApiRefused(
        f"{detail}{f' ({fields})' if fields else ''}",
        problem_type=str(problem.get("type", "about:blank")),
    )
