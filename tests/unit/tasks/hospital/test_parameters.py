"""A run's parameters: nothing but one whole, bounded, strictly typed invitation gets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl.invitation import RoundInvitation
from tasks.hospital.parameters import MOST_BYTES, check_parameters, round_named
from tasks.hospital.refusal import Refusal

Invite = Callable[..., RoundInvitation]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=20,
)


@pytest.fixture
def asked(invite: Invite) -> dict[str, Any]:
    """An invitation as the coordinator sends it."""
    sent: dict[str, Any] = json.loads(json.dumps(invite().model_dump(mode="json")))
    return sent


def put(content: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        content = content[step]
    content[path[-1]] = value


def paths(content: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    return [
        *([at] if at else []),
        *(found for key, value in inner for found in paths(value, (*at, key))),
    ]


def refusal_of(parameters: dict[str, Any]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        check_parameters(parameters)
    assert refused.value.code == "parameters"
    return refused.value


def let_through(parameters: dict[str, Any]) -> RoundInvitation | None:
    try:
        return check_parameters(parameters)
    except Refusal:
        return None


def test_an_invitation_as_the_coordinator_sends_it_gets_through(invite: Invite) -> None:
    invitation = invite(train_config={"proximal-mu": 0.1})
    assert check_parameters({"invitation": invitation.model_dump(mode="json")}) == invitation


@pytest.mark.parametrize("point", [{}, {"threshold": None}, {"least_sensitivity": None}])
def test_what_would_be_read_as_something_else_is_refused(
    asked: dict[str, Any], point: dict[str, Any]
) -> None:
    assert let_through({"invitation": asked}) is not None
    asked["model"]["operating_point"] = point
    refusal = refusal_of({"invitation": asked})
    assert "reads otherwise" in str(refusal)


@given(JSON)
def test_no_other_json_gets_through(value: Any) -> None:
    refusal_of({"invitation": value})
    if not isinstance(value, dict) or set(value) != {"invitation"}:
        refusal_of(value if isinstance(value, dict) else {"other": value})


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), value=JSON)
def test_whatever_a_server_changes_is_refused_or_within_the_bounds(
    asked: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    changed = json.loads(json.dumps(asked))
    put(changed, data.draw(st.sampled_from(paths(changed))), value)
    invitation = let_through({"invitation": changed})
    if invitation is not None:
        # What got through is what was sent: nothing was turned into something else.
        again = json.loads(invitation.model_dump_json(exclude_unset=True))
        assert again == json.loads(json.dumps(changed))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), name=st.text(min_size=1, max_size=20), value=JSON)
def test_an_unknown_key_is_refused_at_every_depth(
    asked: dict[str, Any], data: st.DataObject, name: str, value: Any
) -> None:
    changed = json.loads(json.dumps(asked))
    objects = [()] + [p for p in paths(changed) if isinstance(at(changed, p), dict)]
    inside = at(changed, data.draw(st.sampled_from(objects)))
    if name in KNOWN | set(inside):
        return
    inside[name] = value
    refusal_of({"invitation": changed})


KNOWN = {"hidden", "noise_limit", "patient", "unit", "description", "proximal-mu"}


def at(content: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        content = content[step]
    return content


COLUMN = {"name": "c", "minimum": 0, "maximum": 1}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("number",), "1"),
        (("number",), True),
        (("number",), 1.5),
        (("number",), 10**7),
        (("deadline_s",), 1e9),
        (("deadline_s",), "60"),
        (("deadline_s",), float("nan")),
        (("plan", "steps_per_round"), 10**5),
        (("plan", "rounds"), 10**4),
        (("plan", "clip_norm"), float("inf")),
        (("train_config",), {"epochs": 1.0}),
        (("train_config",), {"learning-rate": 1e10}),
        (("train_config",), {"proximal-mu": float("inf")}),
        (("train_config",), {"proximal-mu": -1}),
        (("train_config",), {"proximal-mu": "0.1"}),
        (("model", "name"), "n" * 64),
        (("model", "description"), "d" * 2001),
        (("model", "architecture"), {"kind": "mlp", "hidden": [8192] * 3}),
        (("model", "architecture"), {"kind": "mlp", "hidden": [1] * 9}),
        (("model", "architecture"), {"kind": "os.system"}),
        (("model", "contract", "label", "positive"), "p" * 129),
        (("model", "contract", "columns", 0, "unit"), "u" * 65),
        (("model", "contract", "columns", 0, "maximum"), 1e16),
        (("roster",), []),
        (("weights",), "../../etc/passwd"),
        (("round_id",), "not-a-round"),
    ],
)
def test_a_value_out_of_its_bounds_or_of_another_type_is_refused(
    asked: dict[str, Any], path: tuple[Any, ...], value: Any
) -> None:
    put(asked, path, value)
    refusal_of({"invitation": asked})


def test_too_many_columns_are_refused(asked: dict[str, Any]) -> None:
    columns = [COLUMN | {"name": f"c{i}"} for i in range(4097)]
    put(asked, ("model", "contract", "columns"), columns)
    assert "at most 4096" in refusal_of({"invitation": asked}).reason


def test_the_product_of_rounds_and_steps_is_bounded(asked: dict[str, Any]) -> None:
    asked["plan"] |= {"steps_per_round": 1000, "rounds": 1000}
    assert "more than 100000" in refusal_of({"invitation": asked}).reason


def test_parameters_beyond_a_mebibyte_are_refused_before_they_are_read(
    asked: dict[str, Any],
) -> None:
    asked["model"]["description"] = "d" * MOST_BYTES
    assert refusal_of({"invitation": asked}).reason.endswith(f"bytes are more than {MOST_BYTES}")


def test_nesting_without_end_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    refusal_of({"invitation": nested})


@pytest.mark.parametrize("extra", [{}, {"command": "sh"}])
def test_a_run_has_the_one_parameter(asked: dict[str, Any], extra: dict[str, Any]) -> None:
    parameters = {"invitation": asked, **extra} if extra else {}
    assert "the one parameter 'invitation'" in refusal_of(parameters).reason


def test_what_a_refusal_says_is_short_whatever_a_server_named_its_fields(
    asked: dict[str, Any],
) -> None:
    asked |= {f"{i}" + "x" * 10_000: 1 for i in range(40)}
    reason = refusal_of({"invitation": asked}).reason
    assert len(reason) <= 500
    assert reason.endswith("and 37 more")


def test_the_round_is_read_wherever_it_can_be() -> None:
    round_id = uuid4()
    assert round_named({"invitation": {"round_id": str(round_id), "x": 1}}) == round_id
    for parameters in ({}, {"invitation": 1}, {"invitation": {"round_id": 7}}):
        assert round_named(parameters) is None
    assert round_named({"invitation": {"round_id": "x" * 36}}) is None
    assert isinstance(round_named({"invitation": {"round_id": str(round_id)}}), UUID)
