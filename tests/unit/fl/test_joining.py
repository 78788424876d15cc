"""The join code: what a person may do to it, and what is noticed."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl.joining import (
    JoinCodeMistyped,
    code_digest,
    hospital_id_of,
    join_statement,
    new_join_code,
    parse_join_code,
    replacement_statement,
)

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
random_bytes = st.binary(min_size=27, max_size=27)


@given(random_bytes)
def test_a_code_reads_the_same_however_it_is_written(drawn: bytes) -> None:
    code = new_join_code(lambda size: drawn[:size])
    parsed = parse_join_code(code)
    assert (len(code), len(parsed)) == (34, 28)
    for written in (code.lower(), code.replace("-", " "), f" {parsed}\n", code.replace("-", "–")):
        assert parse_join_code(written) == parsed
    look_alikes = parsed.replace("0", "o").replace("1", "l")
    assert parse_join_code(look_alikes) == parsed


def test_a_code_has_more_than_128_random_bits() -> None:
    asked: list[int] = []

    def zeros(size: int) -> bytes:
        asked.append(size)
        return bytes(size)

    assert parse_join_code(new_join_code(zeros)) == "0" * 28
    assert sum(asked) * 5 == 135
    assert len({new_join_code() for _ in range(100)}) == 100


@given(random_bytes)
def test_each_wrong_character_and_each_two_swapped_ones_are_noticed(drawn: bytes) -> None:
    parsed = parse_join_code(new_join_code(lambda _: drawn))
    for at, right in enumerate(parsed):
        wrong = ALPHABET[(ALPHABET.index(right) + 1 + drawn[at % 27] % 31) % 32]
        with pytest.raises(JoinCodeMistyped, match="wrong, or two are swapped"):
            parse_join_code(parsed[:at] + wrong + parsed[at + 1 :])
    for first, second in combinations(range(28), 2):
        swapped = [*parsed]
        swapped[first], swapped[second] = swapped[second], swapped[first]
        if parsed[first] != parsed[second]:
            with pytest.raises(JoinCodeMistyped):
                parse_join_code("".join(swapped))


@pytest.mark.parametrize("text", ["", "0" * 27, "0" * 29, "U" + "0" * 27, "0" * 27 + "é", "*" * 28])
def test_what_is_no_code_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(JoinCodeMistyped) as refused:
        parse_join_code(text)
    assert text == "" or text not in str(refused.value)


def test_every_part_of_a_statement_counts() -> None:
    values = {
        "code_digest": code_digest("A"),
        "signing_key": "1" * 64,
        "sealing_key": "2" * 64,
        "secret_digest": "3" * 64,
    }
    statements = {join_statement(**values)}
    statements |= {join_statement(**(values | {name: "4" * 64})) for name in values}
    replaced = {
        "hospital_id": "north",
        "old_signing_key": "1" * 64,
        "signing_key": "2" * 64,
        "sealing_key": "3" * 64,
    }
    statements.add(replacement_statement(**replaced))
    statements |= {
        replacement_statement(**(replaced | {name: "4" * 64})) for name in replaced if "key" in name
    }
    statements.add(replacement_statement(**(replaced | {"hospital_id": "south"})))
    assert len(statements) == 10


@pytest.mark.parametrize(
    ("name", "hospital_id"),
    [
        ("Charité – Universitätsmedizin Berlin", "charite-universitatsmedizin-berlin"),
        ("Charite\N{COMBINING ACUTE ACCENT} Nord", "charite-nord"),
        ("Großes Haus", "grosses-haus"),
        ("St. Mary's (West)", "st-mary-s-west"),
        ("x" * 80, "x" * 63),
        ("北京", ""),
        ("--", ""),
    ],
)
def test_an_id_follows_from_a_name(name: str, hospital_id: str) -> None:
    assert hospital_id_of(name) == hospital_id
