from __future__ import annotations

import pytest

from api.auth.guard import hospital_caller
from api.auth.scopes import EXCHANGE
from api.auth.tokens import Principal
from api.errors import Problem


@pytest.mark.anyio
async def test_a_person_is_no_hospital_whatever_the_scopes() -> None:
    with pytest.raises(Problem, match="for hospitals") as refused:
        await hospital_caller(Principal("user:ada", frozenset({EXCHANGE})))
    assert (refused.value.status_code, refused.value.kind) == (403, "not-a-hospital")
