"""The API keeps to its own OpenAPI document, whatever is sent to it.

Requests that the document allows, and requests that it does not, are made from it (schemathesis)
for an operator, a hospital and nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounds
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from api.auth.scopes import SCOPES_OF_ROLE
from api.settings import ApiSettings

pytestmark = [
    pytest.mark.integration,
    # The app's own thread draws the pauses of its retries meanwhile; no strategy does.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

BASE: Final = "http://testserver"
CHECKS: Final = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
BOUNDED: Final = bounds(
    max_examples=8,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def settings(settings: ApiSettings) -> ApiSettings:
    """No long polls: what would come is not what is looked for."""
    return settings.model_copy(update={"max_wait_s": 0.0})


@pytest.fixture
def headers_of(blocking_api: Any) -> Mapping[str, dict[str, str]]:
    """The headers of an operator, of a hospital and of nobody."""
    api, portal = blocking_api
    portal.call(api.add_hospital, "north")
    return {
        "operator": api.may(*SCOPES_OF_ROLE["operator"]),
        "hospital": api.may(hospital="north"),
        "nobody": {},
    }


def send(blocking_api: Any, case: Any, headers: dict[str, str]) -> httpx.Response:
    """Sends a case as a client over the network would."""
    api, portal = blocking_api
    asked = requests.Request(**case.as_transport_kwargs(base_url=BASE, headers=headers)).prepare()
    call = partial(
        api.client.request,
        asked.method,
        asked.url,
        headers=dict(asked.headers),
        content=asked.body,
    )
    return portal.call(call)


def _parameters(operation: Any) -> list[Any]:
    return [*operation.path_parameters, *operation.query, *operation.headers]


def try_out(
    operation: Any, mode: GenerationMode, send: Callable[[Any], httpx.Response]
) -> set[int]:
    """Checks the answers to cases of an operation; returns their statuses."""
    statuses: set[int] = set()

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case: Any) -> None:
        response = send(case)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    answers()
    return statuses


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("who", ["operator", "hospital", "nobody"])
def test_every_answer_is_one_that_the_document_describes(
    blocking_api: Any,
    headers_of: Mapping[str, dict[str, str]],
    who: str,
    mode: GenerationMode,
) -> None:
    schema = schemathesis.openapi.from_dict(blocking_api[0].app.openapi())
    seen: set[int] = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or _parameters(operation)):
            continue  # there is nothing to get wrong
        statuses = try_out(operation, mode, partial(send, blocking_api, headers=headers_of[who]))
        if "security" in operation.definition.raw:
            seen |= statuses
    if who == "nobody":
        # A body that cannot be parsed is refused before anyone asks for a token.
        assert seen == {401} if mode is GenerationMode.POSITIVE else 401 in seen
        assert seen <= {400, 401, 422}
    else:
        assert 401 not in seen
        assert seen & {200, 201, 422}  # it got as far as what it sent
