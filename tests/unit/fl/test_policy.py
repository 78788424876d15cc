"""Reading a policy: what it may say, and the one line that is said of everything else."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.errors import PolicyError
from fl.policy import Limits, Policy, parse_policy

LEAST = "expires: 2027-01-31\nepsilon_per_training: 4\nepsilon_total: 8\ndelta: 1e-5\n"
HASH = "a" * 64


def test_what_it_does_not_say_has_the_most_careful_value() -> None:
    policy = parse_policy(LEAST)
    assert policy.model_dump(exclude_unset=True).keys() == {
        *("expires", "epsilon_per_training", "epsilon_total", "delta")
    }
    assert (policy.approval, policy.noise, policy.least_cohort) == ("ask", "local", 3)
    assert (policy.models, policy.purposes, policy.cohort) == (None, None, "all")


def test_a_whole_policy_is_read() -> None:
    policy = parse_policy(
        f"""{LEAST}
cohort: oncology
least_cohort: 5
noise: shared
most_colluding: 1
models:
  - {{name: breast-cancer, code_hash: {HASH}}}
  - name: sepsis
    code_hash: any
purposes: [research, breast-cancer-diagnosis]
hours: [mon-fri 20:00-06:00, "sat,sun 00:00-24:00"]
timezone: Europe/Vienna
approval: automatic
"""
    )
    assert policy.expires == date(2027, 1, 31)
    assert policy.limits == Limits(epsilon_per_training=4.0, epsilon_total=8.0, delta=1e-5)
    assert isinstance(policy.models, tuple)
    assert [(m.name, m.code_hash) for m in policy.models] == [
        ("breast-cancer", HASH),
        ("sepsis", "any"),
    ]
    assert policy.purposes == ("research", "breast-cancer-diagnosis")
    assert policy.hours is not None
    assert len(policy.hours) == 2
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert policy.local(noon).hour == 14


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expires: it is missing, and has no default"),
        ("- a", "it must be a list of fields and values, one a line"),
        (LEAST + "a: b: c", "line 5: mapping values are not allowed here"),
        (LEAST + "\x00", "it is not YAML"),
        (LEAST + "delta: 1e-6", 'line 5: "delta" is given twice'),
        (LEAST + "? [a]\n: 3", "line 1: a field has no name"),
        (LEAST + "run: !!python/object:os.system {}", "line 5: could not determine a constructor"),
        (LEAST + "least_cohrt: 3", "least_cohrt: there is no such field"),
        (LEAST + "least cohort: 3", "least cohort: there is no such field"),
        (LEAST + "1: 3", "1: there is no such field"),
        (LEAST + "least_cohort: 2", "least_cohort: Input should be greater than or equal to 3, no"),
        (LEAST + "least_cohort: '4'", "least_cohort: Input should be a valid integer, not "),
        (LEAST + "models: some", "models: Input should be 'any', not \"some\""),
        (LEAST + "models: []", "models: Input should be 'any', not []"),
        (LEAST + "models: [{name: a}]", "models.0.code_hash: it is missing"),
        (LEAST + "models: [{name: a, code_hash: zz}]", "models.0.code_hash: String should match"),
        (LEAST + "models: [{name: a, code_hash: any, x: 1}]", "models.0.x: there is no such field"),
        (LEAST + "purposes: [Any Thing]", "purposes.0: String should match pattern"),
        (LEAST + "hours: [mon 1]", "hours.0: 'mon 1' is not of the form 'mon-fri 20:00-06:00'"),
        (LEAST + "hours: 20:00", "hours: Input should be a valid array, not 1200"),
        (LEAST + "timezone: Mars/One", "timezone: no such time zone"),
        (LEAST + "timezone: /etc/passwd", "timezone: no such time zone"),
        (LEAST + "approval: yes", "approval: Input should be 'automatic' or 'ask', not true"),
        (LEAST + "noise: shared", "most_colluding: give it with noise: shared, and only then"),
        (LEAST + "most_colluding: 1", "most_colluding: give it with noise: shared"),
        (LEAST.replace("8", "2"), "epsilon_per_training: 4 exceeds epsilon_total 2"),
        (LEAST.replace("8", ".inf"), "epsilon_total: Input should be a finite number"),
        (LEAST.replace("4", ".nan"), "epsilon_per_training: Input should be a finite number"),
        (LEAST.replace("4", "0"), "epsilon_per_training: Input should be greater than 0, not 0"),
        (LEAST.replace("1e-5", "0.5"), "delta: Input should be less than or equal to 0.001"),
        (LEAST.replace("2027-01-31", "soon"), "expires: Input should be a valid date"),
        (LEAST.replace("2027-01-31", "2027-01-31T10:00:00"), "expires: Input should be a valid da"),
        (LEAST + "cohort: " + "x" * 500, "cohort: String should match pattern"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(text)
    line = str(refused.value)
    assert line.startswith(said)
    assert "\n" not in line
    assert len(line) < 200


@given(st.text())
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    with suppress(PolicyError):
        parse_policy(text)


@given(st.sampled_from(sorted(Policy.model_fields)), st.sampled_from(["", "[]", "{}", "-1", "x y"]))
def test_no_field_takes_what_it_does_not_mean(field: str, value: str) -> None:
    lines = [line for line in LEAST.splitlines() if not line.startswith(f"{field}:")]
    text = "\n".join([*lines, f"{field}: {value}"])
    if value == "" and Policy.model_fields[field].default is None:
        assert getattr(parse_policy(text), field) is None  # as if it were not there
        return
    with pytest.raises(PolicyError, match=f"^{field}"):
        parse_policy(text)
