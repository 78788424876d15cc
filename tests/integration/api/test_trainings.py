"""Starting trainings and following them."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.routes.trainings import privacy_request
from db.models import utc_now
from db.queries import hospitals
from db.queries.participations import set_participation
from db.session import transaction
from privacy.plan import PrivacyRequest
from privacy.settings import PrivacySettings

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


@pytest.fixture
async def ready(api: Any) -> Any:
    """A model and three hospitals that can be invited."""
    for hospital_id in ("north", "south", "west"):
        await api.add_hospital(hospital_id)
    await api.add_model()
    return api


async def test_starts_a_training(ready: Any) -> None:
    answer = await ready.start_training(rounds=3, privacy={"epsilon": 4.0}, purpose="care")
    assert answer.status_code == 202, answer.text
    started = answer.json()
    assert started["plan"]["rounds"] == 3
    assert started["plan"]["noise_multiplier"] >= 0.3
    assert started["epsilon"] <= 4.0
    assert started["delta"] == 1e-5
    (run,) = ready.prefect.runs.values()
    assert run["deployment"] == "federated-training.federated-training"
    assert run["parameters"] == {"training_id": started["training_id"]}
    assert run["idempotency_key"] == started["training_id"]

    status = await ready.get(started["status_url"], "training:read")
    assert status["state"] == "pending"
    assert status["requested_by"] == "user:test"
    assert status["flow_run_id"] == run["id"]
    assert status["round"]["round_id"] == started["round_id"]
    assert (status["round"]["number"], status["round"]["state"]) == (1, "pending")
    assert status["round"]["hospitals"] == []
    by_round = await ready.get(f"/training/status/{started['round_id']}", "training:read")
    assert by_round == status

    (event,) = await ready.get("/audit/events?action=training.requested", "audit:read")
    assert event["details"]["epsilon"] == started["epsilon"]
    assert event["details"]["purpose"] == status["purpose"] == "care"
    (listed,) = await ready.get("/training", "training:read")
    assert listed["training_id"] == started["training_id"]


async def test_a_scheduled_training_waits_for_the_runs_of_a_schedule(ready: Any) -> None:
    answer = await ready.start_training(rounds=3, pace="scheduled")
    assert answer.status_code == 202, answer.text
    assert ready.prefect.runs == {}
    status = await ready.get(answer.json()["status_url"], "training:read")
    assert (status["state"], status["flow_run_id"]) == ("pending", None)


async def test_a_request_that_leaves_privacy_out_gets_the_settings(ready: Any) -> None:
    services = ready.services
    settings = services.settings.model_copy(
        update={"privacy": PrivacySettings(noise_multiplier=7.0, clip_norm=0.5)}
    )
    ready.app.state.services = dataclasses.replace(services, settings=settings)
    started = (await ready.start_training()).json()
    assert started["plan"]["noise_multiplier"] == 7.0
    assert started["plan"]["clip_norm"] == 0.5


@pytest.mark.parametrize(
    ("given", "defaults", "expected"),
    [
        ({}, {}, {}),
        ({}, {"epsilon": 3}, {"epsilon": 3}),
        ({"delta": 1e-6}, {"epsilon": 3}, {"epsilon": 3, "delta": 1e-6}),
        ({"epsilon": 2}, {"noise_multiplier": 9}, {"epsilon": 2}),
        ({"noise_multiplier": 9}, {"epsilon": 2}, {"noise_multiplier": 9}),
        ({"epsilon": None}, {"epsilon": 2}, {"epsilon": 2}),
        ({"clip_norm": 2}, {"clip_norm": 3}, {"clip_norm": 2}),
    ],
)
def test_what_is_given_wins_over_the_settings(given: Any, defaults: Any, expected: Any) -> None:
    asked = privacy_request(PrivacyRequest(**given), PrivacySettings(**defaults))
    assert asked == PrivacyRequest(**expected)


async def test_an_unknown_model(ready: Any) -> None:
    before = ready.contents()
    answer = await ready.start_training(model="skin-cancer")
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/unknown-model"
    assert answer.json()["errors"][0]["field"] == "model"
    assert ready.contents() == before
    assert not ready.prefect.runs


async def test_fewer_than_three_hospitals(api: Any) -> None:
    await api.add_model()
    await api.add_hospital("north")
    await api.add_hospital("south")
    await api.add_hospital("west", with_keys=False)
    await api.add_hospital("east")
    with transaction(api.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="east", state="suspended")
    before = api.contents()
    answer = await api.start_training()
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/too-few-hospitals"
    assert answer.json()["errors"][0]["field"] == "least_cohort"
    assert "there are 2" in answer.json()["detail"]
    assert api.contents() == before
    assert not api.prefect.runs


async def test_a_larger_least_cohort_than_there_are_hospitals(ready: Any) -> None:
    answer = await ready.start_training(least_cohort=4)
    assert answer.status_code == 409
    assert "needs 4" in answer.json()["detail"]


ABSURD = [
    ({"privacy": {"epsilon": 0}}, "privacy.epsilon"),
    ({"privacy": {"epsilon": -1}}, "privacy.epsilon"),
    ({"privacy": {"epsilon": 1e6}}, "privacy.epsilon"),
    ({"privacy": {"epsilon": "NaN"}}, "privacy.epsilon"),
    ({"privacy": {"epsilon": "a lot"}}, "privacy.epsilon"),
    ({"privacy": {"delta": 0}}, "privacy.delta"),
    ({"privacy": {"delta": 0.5}}, "privacy.delta"),
    ({"privacy": {"noise_multiplier": 0}}, "privacy.noise_multiplier"),
    ({"privacy": {"clip_norm": 0}}, "privacy.clip_norm"),
    ({"privacy": {"sampling_rate": 1.1}}, "privacy.sampling_rate"),
    ({"privacy": {"expected_batch_size": 0}}, "privacy.expected_batch_size"),
    ({"privacy": {"steps_per_round": 10**9}}, "privacy.steps_per_round"),
    ({"privacy": {"epsilon": 1, "noise_multiplier": 1}}, "privacy"),
    ({"privacy": {"secure": False}}, "privacy.secure"),
    ({"privacy": "none"}, "privacy"),
    ({"rounds": 0}, "rounds"),
    ({"rounds": 10**6}, "rounds"),
    ({"rounds": 1.5}, "rounds"),
    ({"rounds": 1000, "privacy": {"steps_per_round": 101}}, "body"),  # too many steps together
    ({"least_cohort": 2}, "least_cohort"),
    ({"round_deadline_s": 0}, "round_deadline_s"),
    ({"strategy": {"kind": "krum"}}, "strategy"),
    ({"strategy": {"kind": "fedprox", "proximal_mu": -1}}, "strategy.fedprox.proximal_mu"),
    ({"model": "../etc"}, "model"),
    ({"model": None}, "model"),
    ({"purpose": "any thing"}, "purpose"),
    ({"flow": "rm -rf"}, "flow"),
]


async def test_absurd_requests(ready: Any) -> None:
    before = ready.contents()
    for change, field in ABSURD:
        answer = await ready.start_training(**change)
        assert answer.status_code == 422, (change, answer.text)
        assert answer.json()["type"] == "/problems/invalid-request"
        assert field in [e["field"] for e in answer.json()["errors"]], change
        assert all(e["rule"] and e["detail"] for e in answer.json()["errors"])
    assert ready.contents() == before
    assert not ready.prefect.runs


async def test_a_plan_that_cannot_be_met(ready: Any) -> None:
    before = ready.contents()
    answer = await ready.start_training(
        rounds=1000, privacy={"epsilon": 0.01, "sampling_rate": 1.0, "steps_per_round": 100}
    )
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/privacy-plan"
    assert answer.json()["errors"][0]["field"] == "privacy"
    assert ready.contents() == before
    assert not ready.prefect.runs


@pytest.mark.parametrize("failure", ["down", "refuses"])
async def test_without_prefect_no_training_is_written(ready: Any, failure: str) -> None:
    before = ready.contents()
    setattr(ready.prefect, failure, True)
    answer = await ready.start_training(privacy={"noise_multiplier": 5})
    assert answer.status_code == 503
    assert ready.contents() == before


async def test_follows_rounds_and_hospitals(ready: Any) -> None:
    first = await ready.open_round()
    with transaction(ready.engine) as session:
        now = utc_now()
        for state in ("enrolled", "uploaded", "revealed"):
            set_participation(session, round_id=first, hospital_id="north", state=state, now=now)
        set_participation(
            session,
            round_id=first,
            hospital_id="south",
            state="refused",
            reason_code="contract",
            reason="column age is missing",
            now=now,
        )
    ready.close(first, state="failed", reason="south refused", epsilon=0.25, delta=1e-5)
    status = await ready.get(f"/training/status/{first}", "training:read")
    training = UUID(status["training_id"])
    shown = status["round"]
    assert (shown["state"], shown["reason"]) == ("failed", "south refused")
    assert shown["seconds"] >= 0
    north, south, west = shown["hospitals"]
    assert (north["state"], south["state"], west["state"]) == ("revealed", "refused", "invited")
    assert (south["reason_code"], south["reason"]) == ("contract", "column age is missing")
    assert north["seconds"] >= 0
    assert west["seconds"] is None
    assert (status["completed_rounds"], status["epsilon_spent"]) == (0, 0.25)

    second = await ready.open_round(training=training)
    ready.close(second, state="completed", metrics={"auc": 0.9}, epsilon=0.5, delta=1e-5)
    detail = await ready.get(f"/training/{training}", "training:read")
    assert [r["number"] for r in detail["rounds"]] == [1, 2]
    assert detail["rounds"][1]["metrics"] == {"auc": 0.9}
    assert (detail["completed_rounds"], detail["epsilon_spent"]) == (1, 0.5)
    latest = await ready.get(f"/training/status/{training}", "training:read")
    assert latest["round"] == detail["rounds"][1]


async def test_what_is_not_there(api: Any) -> None:
    for path, status, kind in [
        (f"/training/{uuid4()}", 404, "unknown-training"),
        (f"/training/status/{uuid4()}", 404, "unknown-round"),
        ("/training/7", 422, "invalid-request"),
        ("/training/status/7", 422, "invalid-request"),
        ("/training?limit=0", 422, "invalid-request"),
    ]:
        answer = await api.client.get(path, headers=api.may("training:read"))
        assert answer.status_code == status, path
        assert answer.json()["type"] == f"/problems/{kind}"
