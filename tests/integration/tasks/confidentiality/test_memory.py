"""What the coordinator's objects hold while it gathers: one running sum, and no single update."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from privacy.secagg import SecureSum, Upload
from tasks import gather
from tasks.gather import GatheredSum

pytestmark = pytest.mark.integration

# They lead to everything that is imported, and hold nothing of a round.
_CODE = (type, ModuleType, FunctionType, BuiltinFunctionType)


def reachable(root: object) -> Iterator[object]:
    """All objects that an object leads to, itself included."""
    seen: dict[int, object] = {}
    ahead = [root]
    while ahead:
        found = ahead.pop()
        if id(found) in seen or isinstance(found, _CODE):
            continue
        seen[id(found)] = found
        yield found
        if isinstance(found, np.ndarray) and found.base is not None:
            ahead.append(found.base)
        ahead += gc.get_referents(found)


def contents(root: object, *, least_bytes: int) -> list[NDArray[Any] | bytes]:
    """All arrays and byte strings of some size that an object leads to."""
    return [
        found
        for found in reachable(root)
        if (isinstance(found, np.ndarray) and found.nbytes >= least_bytes)
        or (isinstance(found, bytes | bytearray) and len(found) >= least_bytes)
    ]


def holders(root: object, attacker: Any) -> list[str]:
    """The hospitals whose update, or a trace of it, an object leads to."""
    held = [
        found.tobytes() if isinstance(found, np.ndarray) else bytes(found)
        for found in contents(root, least_bytes=64)
    ]
    return [
        name
        for name, secret in attacker.secrets.items()
        if any(attacker.finds(data, secret) for data in held)
    ]


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch, attacker: Any) -> list[Any]:
    """Looks into the secure sum after each upload; holds the hospitals it found, one list each."""
    looked: list[Any] = []

    class Watched(SecureSum):
        def add(self, upload: Upload) -> None:
            super().add(upload)
            (running,) = contents(self, least_bytes=len(upload.masked))
            assert isinstance(running, np.ndarray)
            looked.append((upload.masked.copy(), running.copy(), holders(self, attacker)))

    monkeypatch.setattr(gather, "SecureSum", Watched)
    return looked


def test_the_secure_sum_holds_one_array_the_running_sum(consortium: Any, sums: list[Any]) -> None:
    consortium.gather(consortium.open())
    assert len(sums) == 3
    expected = np.zeros_like(sums[0][0])
    for masked, running, _ in sums:
        expected += masked
        assert np.array_equal(running, expected)


def test_after_no_upload_does_it_lead_to_a_single_update(consortium: Any, sums: list[Any]) -> None:
    consortium.gather(consortium.open())
    assert [found for _, _, found in sums] == [[], [], []]


@pytest.mark.parametrize("spelling", ["weights", "quantised", "bytes", "view"])
def test_an_update_that_is_kept_would_be_found(
    consortium: Any, attacker: Any, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """The control: a secure sum that keeps what it should not, deep inside, is caught."""
    found = []
    secret = attacker.secrets["north"]
    kept = {
        "weights": consortium.hospitals["north"].update,
        "quantised": secret,
        "bytes": b"head" + secret.tobytes(),
        "view": np.concatenate([secret, secret])[:1],  # its base holds all of it
    }[spelling]

    class Keeping(SecureSum):
        def add(self, upload: Upload) -> None:
            super().add(upload)
            if upload.index == 2:
                self.log = [{"of": upload.index, "what": (kept,)}]
            found.append(holders(self, attacker))

    monkeypatch.setattr(gather, "SecureSum", Keeping)
    consortium.gather(consortium.open())
    assert found[0] == []
    assert found[-1] == ["north"]


def test_what_was_gathered_holds_the_sum_and_no_part_of_it(consortium: Any, attacker: Any) -> None:
    gathered = consortium.gather(consortium.open())
    mean = sum(attacker.secrets.values()) * attacker.step / 3
    held = contents(gathered, least_bytes=64)
    arrays = [found for found in held if isinstance(found, np.ndarray)]
    assert len(arrays) == len(held) <= 3  # the mean, the counts, and the counts' base
    assert gathered.mean_update == pytest.approx(mean, abs=1e-9)
    for name, hospital in consortium.hospitals.items():
        # As far from each update as a mean of three that have nothing in common.
        likeness = attacker.likeness(gathered.mean_update.tobytes(), attacker.secrets[name])
        assert likeness == pytest.approx(1 / np.sqrt(3), abs=0.05)
        for array in arrays:
            assert not attacker.reads(array.tobytes(), attacker.secrets[name])
            assert hospital.counts.tobytes() not in array.tobytes()
    lone = GatheredSum(consortium.hospitals["east"].update, 1, gathered.counts)
    assert "east" in holders(lone, attacker)
