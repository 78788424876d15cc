"""Opening a round: who is invited, from which weights, and what is recorded when it cannot open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from db.errors import BlobMissing, Conflict, NotFound
from db.queries import hospitals, rounds, trainings
from db.session import transaction
from fl.records import encode_record
from fl.strategy_spec import FedAvgM, FedProx
from fl.weights import encode_weights
from tasks.cohort import open_round
from tasks.errors import RoundFailed

pytestmark = pytest.mark.integration


def open_(consortium: Any, training_id: Any, **how: Any) -> Any:
    options = {"kind": "training", "flow_run_id": "flow-1", **how}
    return open_round.fn(consortium.coordinator, training_id, **options)


def test_the_invitation_tells_all_that_a_hospital_needs_and_nothing_of_rows(
    consortium: Any,
) -> None:
    training_id = consortium.add_training(strategy=FedProx(proximal_mu=0.5))
    opened = open_(consortium, training_id)

    invitation = opened.invitation
    assert (invitation.training_id, invitation.number, invitation.kind) == (
        training_id,
        1,
        "training",
    )
    assert invitation.train_config == {"proximal-mu": 0.5}
    assert invitation.model.name == "breast-cancer"
    assert invitation.purpose == "research"
    assert invitation.plan.rounds == 2
    assert invitation.deadline_s == 60
    assert opened.mlflow_run_id == "run-1"
    assert opened.hospital_ids == ("east", "north", "west")
    assert [opened.hospital_at(index) for index in (1, 2, 3)] == ["east", "north", "west"]
    for entry in invitation.roster:
        public = consortium.hospitals[entry.hospital_id].identity.public
        assert entry.signing_key == public.signing_key.hex()
        assert entry.sealing_key == public.sealing_key.hex()


def test_the_round_starts_from_the_weights_and_the_state_that_the_last_one_left(
    consortium: Any,
) -> None:
    training_id = consortium.add_training(strategy=FedAvgM())
    consortium.fail(open_(consortium, training_id))
    weights = {"w": np.full(40, 0.5, np.float32)}
    digest = consortium.blobs.put(encode_weights(weights))
    arrays = ArrayRecord({"w": Array(np.ones(40, np.float32))})
    kept = RecordDict({"current": arrays, "momentum": arrays})
    state = consortium.blobs.put(encode_record(kept))
    with transaction(consortium.engine) as session:
        trainings.advance_training(
            session, training_id=training_id, weights=digest, strategy_state=state
        )

    opened = open_(consortium, training_id)
    assert opened.invitation.number == 2
    assert opened.invitation.weights == digest
    assert np.array_equal(opened.state.weights["w"], weights["w"])
    assert set(opened.state.strategy_state.array_records) == {"current", "momentum"}


def test_who_is_suspended_or_has_no_keys_is_not_invited(consortium: Any) -> None:
    consortium.add_hospital("coast")
    consortium.add_hospital("delta", with_keys=False)
    with transaction(consortium.engine) as session:
        hospitals.set_hospital_state(session, hospital_id="north", state="suspended")
    opened = open_(consortium, consortium.add_training())
    assert opened.hospital_ids == ("coast", "east", "west")
    assert [entry.index for entry in opened.invitation.roster] == [1, 2, 3]


def test_too_few_hospitals_are_refused_and_the_refusal_is_recorded(
    make_consortium: Callable[..., Any],
) -> None:
    consortium = make_consortium(hospital_ids=("east", "west"))
    training_id = consortium.add_training()
    with pytest.raises(RoundFailed, match=r"needs 3 hospitals .* there are 2") as refused:
        open_(consortium, training_id)

    with transaction(consortium.engine) as session:
        (recorded,) = rounds.list_rounds(session, training_id)
    assert (recorded.state, recorded.reason) == ("failed", str(refused.value))
    assert recorded.closed_at == consortium.coordinator.now()
    assert consortium.contents()["participations"] == []


def test_a_training_that_has_no_weights_yet_is_not_opened(consortium: Any) -> None:
    training_id = consortium.add_training(prepared=False)
    with pytest.raises(RoundFailed, match=f"training {training_id} has not been prepared"):
        open_(consortium, training_id)
    (waiting,) = consortium.contents()["rounds"]
    assert waiting["state"] == "pending"


def test_a_round_whose_weights_are_gone_is_not_left_open(consortium: Any) -> None:
    training_id = consortium.add_training()
    (training,) = consortium.contents()["trainings"]
    consortium.blobs.delete(training["weights"])
    with pytest.raises(BlobMissing):
        open_(consortium, training_id)
    (waiting,) = consortium.contents()["rounds"]
    assert waiting["state"] == "pending"

    consortium.blobs.put(encode_weights(consortium.weights))
    assert open_(consortium, training_id).invitation.number == 1


def test_one_round_at_a_time(consortium: Any) -> None:
    training_id = consortium.add_training()
    open_(consortium, training_id)
    with pytest.raises(Conflict, match=r"round 1 of .* is still open"):
        open_(consortium, training_id)
    assert len(consortium.contents()["rounds"]) == 1


def test_an_unknown_training_is_named(consortium: Any) -> None:
    unknown = uuid4()
    with pytest.raises(NotFound, match=str(unknown)):
        open_(consortium, unknown)
