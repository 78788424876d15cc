"""What may leave a hospital when something goes wrong: a code and a sentence, never data."""

import json
import traceback

import pytest

from db.site_store import SiteStore
from fl.errors import ModelError, WireError
from privacy.errors import RoundReused, SignatureRefused
from tasks.hospital.exchange_errors import RoundClosed
from tasks.hospital.refusal import Refusal, contained

SECRET = "Erika Mustermann, 1957-03-04"


@pytest.fixture
def store(tmp_path):
    return SiteStore(tmp_path / "site.db")


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), KeyError(SECRET), RuntimeError(SECRET), OSError(SECRET)]
)
def test_the_unexpected_leaves_as_its_class_name_alone(store, error):
    with pytest.raises(Refusal) as caught, contained(store):
        raise error
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text
    assert SECRET not in caught.value.encode().decode()
    assert caught.value.code == "internal-error"
    assert type(error).__name__ in caught.value.reason


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SignatureRefused("hospital 2: enrolment"), "protocol"),
        (RoundReused("round 3"), "protocol"),
        (ModelError("BatchNorm"), "model"),
        (WireError("unknown format"), "model"),
    ],
)
def test_a_broken_rule_is_named(store, error, code):
    with pytest.raises(Refusal) as caught, contained(store):
        raise error
    assert caught.value.code == code
    assert str(error) in caught.value.reason


def test_a_refusal_and_an_answer_of_the_exchange_pass_unchanged(store):
    with pytest.raises(Refusal, match="own-keys"), contained(store):
        raise Refusal("own-keys", "not mine")
    with pytest.raises(RoundClosed), contained(store):
        raise RoundClosed("over")


def test_a_long_reason_is_cut_to_what_the_exchange_takes():
    body = json.loads(Refusal("data-contract", "x" * 2000).encode())
    assert len(body["reason"]) == 500


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")],
)
def test_a_run_that_gets_no_more_memory_is_reported_as_crashed(
    store: SiteStore, error: Exception
) -> None:
    with pytest.raises(Refusal) as refused, contained(store):
        raise error
    assert refused.value.code == "crashed"
    assert "FEDMED_CHILD_MEMORY_MB" in refused.value.reason
