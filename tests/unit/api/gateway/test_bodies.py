from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Problem
from api.gateway.bodies import (
    MAX_LOG_LINES,
    MAX_MESSAGE,
    Heartbeat,
    Labels,
    Logs,
    RunUpdate,
    ScheduledRuns,
    SetState,
    read,
)

RUN = str(uuid4())
NOW = "2026-11-25T12:00:00+00:00"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def line(**changes: Any) -> dict[str, Any]:
    found = {"flow_run_id": RUN, "name": "x", "level": 20, "timestamp": NOW, "message": "m"}
    return {**found, **changes}


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_of_a_state_four_fields_and_no_force_go_on(others: dict[str, Any]) -> None:
    proposal = {
        "state": {"message": "m", **others, "type": "RUNNING", "name": None, "state_details": {}},
        **others,
        "force": True,
    }
    proposal["state"]["message"] = "m"
    proposal["state"]["data"] = others
    sent = json.loads(
        read(SetState, as_json({**proposal, "state": proposal["state"]})).upstream(RUN)
    )
    assert sent == {
        "state": {
            "type": "RUNNING",
            "name": None,
            "message": "m",
            "state_details": {"flow_run_id": RUN},
        },
        "force": False,
    }


@given(st.text(max_size=3 * MAX_MESSAGE))
def test_a_message_is_printable_and_bounded(message: str) -> None:
    body = as_json({"state": {"type": "FAILED", "message": message}})
    sent = json.loads(read(SetState, body).upstream(RUN))["state"]["message"]
    assert len(sent) == min(len(message), MAX_MESSAGE)
    assert all(c.isprintable() or c == "\n" for c in sent)


@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=3))
def test_an_update_of_a_run_has_no_other_field(fields: dict[str, Any]) -> None:
    if set(fields) <= {"infrastructure_pid", "flow_version"}:
        return
    with pytest.raises(Problem) as refused:
        read(RunUpdate, as_json(fields))
    assert refused.value.status_code == 403


def test_an_update_of_a_run_passes_on_what_is_set() -> None:
    sent = read(RunUpdate, as_json({"infrastructure_pid": "71"})).upstream()
    assert json.loads(sent) == {"infrastructure_pid": "71"}
    for value in ("", "x" * 201, "a b", "a\n"):
        with pytest.raises(Problem, match="422"):
            read(RunUpdate, as_json({"infrastructure_pid": value}))


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_question_for_work_names_no_queue(others: dict[str, Any]) -> None:
    body = {**others, "work_queue_names": ["x"], "limit": 7, "scheduled_before": NOW}
    body.pop("scheduled_after", None)
    sent = json.loads(read(ScheduledRuns, as_json(body)).upstream())
    assert sent == {"limit": 7, "scheduled_before": NOW}


@pytest.mark.parametrize("limit", [0, -1, 101, 1e3, "7", True])
def test_the_question_for_work_is_bounded(limit: object) -> None:
    with pytest.raises(Problem, match="422"):
        read(ScheduledRuns, as_json({"limit": limit}))


def test_a_heartbeat_is_a_name_and_an_interval() -> None:
    beat = {"name": "north-host", "heartbeat_interval_seconds": 30, "metadata": {"a": "b"}}
    sent = read(Heartbeat, as_json({**beat, "return_id": True})).upstream()
    assert json.loads(sent) == {"name": "north-host", "heartbeat_interval_seconds": 30}
    for changes in ({"name": "a/b"}, {"name": "a\n"}, {"heartbeat_interval_seconds": 1e9}):
        with pytest.raises(Problem, match="422"):
            read(Heartbeat, as_json({**beat, **changes}))


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_labels_that_pass_are_few_short_and_plain(labels: dict[str, Any]) -> None:
    try:
        sent = json.loads(read(Labels, as_json(labels)).upstream())
    except Problem:
        return
    assert set(sent) == set(labels)
    assert all(isinstance(v, str | bool | int | float) for v in sent.values())
    assert all(len(v) <= 200 for v in sent.values() if isinstance(v, str))


def test_labels_that_do_not_pass() -> None:
    for labels in ({f"a{n}": 1 for n in range(33)}, {"a": {}}, {"a b": 1}, {"": 1}):
        with pytest.raises(Problem, match="422"):
            read(Labels, as_json(labels))


@given(st.text(), st.dictionaries(st.text(), json_values, max_size=3))
def test_a_line_of_a_log_is_rebuilt(message: str, others: dict[str, Any]) -> None:
    others.pop("task_run_id", None)
    logs = read(Logs, as_json([{**others, **line(message=message)}]))
    [sent] = json.loads(logs.upstream())
    assert logs.runs() == {RUN}
    assert set(sent) == {"flow_run_id", "level", "name", "message", "timestamp"}
    assert "\x00" not in sent["message"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([line()] * (MAX_LOG_LINES + 1), 422),
        ([line(level=-1)], 422),
        ([line(timestamp="2026-11-25T12:00:00")], 422),
        ([line(flow_run_id=None)], 422),
        ([line(task_run_id=str(UUID(int=1)))], 403),
        (line(), 422),
    ],
)
def test_logs_that_are_refused(body: object, status: int) -> None:
    with pytest.raises(Problem) as refused:
        read(Logs, as_json(body))
    assert refused.value.status_code == status


@given(st.text(alphabet=st.characters(exclude_characters="0123456789"), min_size=8))
def test_what_was_sent_is_not_repeated(value: str) -> None:
    body = as_json({"state": {"type": "RUNNING", "state_details": {"transition_id": value}}})
    with pytest.raises(Problem) as refused:
        read(SetState, body)
    assert refused.value.status_code == 422
    assert value not in str([error.detail for error in refused.value.errors])


@pytest.mark.parametrize("body", [b"", b"[" * 10_000, b'{"state":' * 5_000, b"\xff", b"NaN"])
def test_hostile_json_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match="422"):
        read(SetState, body)
