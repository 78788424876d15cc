from __future__ import annotations

import pytest

from api.auth.scopes import EXCHANGE, SCOPES, SCOPES_OF_ROLE, ScopeRefused, narrow


def test_all_scopes_of_all_roles_exist() -> None:
    assert frozenset().union(*SCOPES_OF_ROLE.values()) == set(SCOPES)


def test_only_hospitals_take_part_in_rounds() -> None:
    assert [role for role, scopes in SCOPES_OF_ROLE.items() if EXCHANGE in scopes] == ["hospital"]
    assert SCOPES_OF_ROLE["hospital"] == {EXCHANGE}


@pytest.mark.parametrize("asked", [None, "", "   "])
def test_without_a_wish_a_token_gets_all_of_the_role(asked: str | None) -> None:
    assert narrow("compliance", asked) == SCOPES_OF_ROLE["compliance"]


def test_a_wish_narrows() -> None:
    assert narrow("operator", "audit:read metrics:read") == {"audit:read", "metrics:read"}


@pytest.mark.parametrize("asked", ["exchange", "audit:read exchange", "everything", "AUDIT:READ"])
def test_a_wish_does_not_widen(asked: str) -> None:
    with pytest.raises(ScopeRefused, match="operator"):
        narrow("operator", asked)
