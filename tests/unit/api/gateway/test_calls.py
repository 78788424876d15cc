from __future__ import annotations

import re
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.gateway.calls import CALLS, KIB, largest_body, loggable, match
from api.gateway.handlers import HANDLERS

METHODS = sorted({call.method for call in CALLS} | {"PUT", "DELETE", "HEAD", "OPTIONS", "get"})
pools = st.from_regex(r"hospital-[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
ids = st.uuids().map(str)


@st.composite
def listed(draw: st.DrawFn) -> tuple[str, str]:
    """The method and a path of a call that is in the table."""
    call = draw(st.sampled_from(CALLS))
    path = call.template.replace("{pool}", draw(pools)).replace("{id}", draw(ids))
    return call.method, path


def encode(path: str, at: int) -> str:
    return f"{path[:at]}%{ord(path[at]):02x}{path[at + 1 :]}"


@given(listed())
def test_what_is_listed_matches_with_the_values_of_its_path(asked: tuple[str, str]) -> None:
    found = match(*asked)
    assert found is not None
    call, values = found
    assert asked == (call.method, call.template.format(**values))


@given(st.sampled_from(METHODS), st.text())
def test_whatever_matches_is_the_template_with_canonical_values(method: str, path: str) -> None:
    found = match(method, path)
    if found is not None:
        call, values = found
        assert path == call.template.format(**values)
        assert re.fullmatch(r"[a-z0-9_/-]+", path)


@given(listed(), st.data())
def test_no_other_spelling_of_a_path_matches(asked: tuple[str, str], data: st.DataObject) -> None:
    method, path = asked
    at = data.draw(st.integers(0, len(path) - 1))
    others = [
        encode(path, at),
        path.replace("/", "//", 1),
        path.replace("/", "/./", 1),
        path.replace("/", "/x/../", 1),
        path.replace("/", "%2F"),
        path.replace("/", "\\"),
        path + "\n",
        path + "?x=1",
        path + ";x=1",
        path + "%00",
        "/" + path,
        path.upper(),
        path.rstrip("/") if path.endswith("/") else path + "/",
    ]
    for other in others:
        assert match(method, other) is None, other


@given(listed(), st.sampled_from(METHODS))
def test_the_method_is_part_of_the_call(asked: tuple[str, str], method: str) -> None:
    _, path = asked
    found = match(method, path)
    assert (found is not None) == any(
        call.method == method and call.pattern.fullmatch(path) for call in CALLS
    )


@pytest.mark.parametrize(
    "spelling",
    [str.upper, lambda i: i.replace("-", ""), lambda i: f"{{{i}}}", lambda i: f"urn:uuid:{i}"],
)
def test_an_id_has_one_spelling(spelling: object) -> None:
    run_id = str(UUID(int=uuid4().int | 0xA))
    assert callable(spelling)
    assert match("GET", f"/flow_runs/{run_id}")
    assert match("GET", f"/flow_runs/{spelling(run_id)}") is None


def test_every_call_has_its_rules() -> None:
    assert {call.name for call in CALLS} == set(HANDLERS)
    assert len(CALLS) == len(HANDLERS)


def test_a_body_s_bound_is_known_by_path() -> None:
    assert largest_body(f"/flow_runs/{uuid4()}/set_state") == 64 * KIB
    assert largest_body(f"/flow_runs/{uuid4()}") == 4 * KIB
    assert largest_body("/health") is None
    assert largest_body("/block_documents/filter") is None


@given(st.text())
def test_of_a_refused_path_little_is_logged(path: str) -> None:
    assert re.fullmatch(r"/[a-z_]{1,40}/…|…", loggable(path))
