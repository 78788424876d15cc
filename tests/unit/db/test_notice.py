from __future__ import annotations

from uuid import UUID

import pytest

from db.notify import Notice

ROUND = UUID(int=7)


def test_a_notice_names_round_hospital_and_kind() -> None:
    notice = Notice.parse(f"{ROUND}:north:upload")
    assert notice == Notice(round_id=ROUND, hospital_id="north", kind="upload")


@pytest.mark.parametrize("payload", ["", "x", f"{ROUND}:upload", f"{ROUND}:a:b:c", "7:a:b"])
def test_other_payloads_are_refused(payload: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Notice.parse(payload)
