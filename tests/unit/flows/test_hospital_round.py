"""The hospital's flow: a refusal ends it with its words, never with a traceback."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import hospital_round as flow
from tasks.hospital.exchange_errors import ExchangeTimeout, RoundClosed
from tasks.hospital.refusal import Refusal
from tasks.hospital.way import Way

INVITATION: Any = SimpleNamespace(number=3, training_id="t")
WAY = Way("http://api", uds=Path("/c.sock"))
AUTH = object()


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the flow with a hospital's part that does what the test says."""

    def run(take_part: Any) -> Any:
        site = SimpleNamespace(settings=SimpleNamespace(way=WAY), auth=AUTH)
        monkeypatch.setattr(flow, "SiteSettings", lambda: None)
        monkeypatch.setattr(flow, "open_site", lambda settings: site)
        monkeypatch.setattr(
            flow.ExchangeClient, "connect", lambda way, auth: nullcontext((way, auth))
        )
        monkeypatch.setattr(flow, "take_part", take_part)
        return flow.hospital_round.fn(INVITATION)

    return run


def test_it_ends_with_the_seconds_of_each_stage(answer: Any) -> None:
    asked = []

    def take_part(site: Any, invitation: Any, exchange: Any, *, generator: Any) -> Any:
        asked.append((invitation, exchange, generator.is_private))
        return {"train": 0.25, "upload": 0.01}

    state = answer(take_part)
    assert state.is_completed()
    assert state.message == "train 0.250 s, upload 0.010 s"
    assert asked == [(INVITATION, (WAY, AUTH), True)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Refusal("peer-keys", "west has other keys"), "Refusal: peer-keys: west has other keys"),
        (RoundClosed("west refused"), "RoundClosed: west refused"),
        (ExchangeTimeout("no cohort"), "ExchangeTimeout: no cohort"),
    ],
)
def test_a_refusal_and_an_ended_round_are_no_crash(
    answer: Any, error: Exception, message: str
) -> None:
    def take_part(*_: Any, **__: Any) -> Any:
        raise error

    state = answer(take_part)
    assert (state.is_failed(), state.message) == (True, message)
    assert state.data is None  # no exception travels with it
