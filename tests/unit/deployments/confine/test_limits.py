"""What one child may use: over a limit it ends, and only it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from deployments.confine import ChildLimits

PROGRAM = """
def entry(request):
    if given["limited"]:
        limit_child(ChildLimits(memory_mb=int(request["memory_mb"]), cpu_s=int(request["cpu_s"])))
    if request["do"] == "hold":
        held = bytearray(1 << 30)
    if request["do"] == "compute":
        import time
        while time.process_time() < 1.5:
            pass
    return ""

requests = [
    {"do": what, "memory_mb": "512", "cpu_s": "1"} for what in ("nothing", "hold", "compute")
]
print(json.dumps(children(entry, requests, confined=True)))
"""

Run = Callable[..., Any]


def test_a_child_over_its_memory_or_its_time_ends_and_the_next_one_runs(run_children: Run) -> None:
    assert run_children(PROGRAM, limited=True) == [0, 1, -signal.SIGXCPU]
    assert run_children(PROGRAM, limited=False) == [0, 0, 0]


@pytest.mark.parametrize(
    ("cpu_s", "deadline_s", "most"), [(10, 60.0, 10), (86_400, 10.5, 11 * 64 + 30)]
)
def test_a_round_gets_no_more_time_than_all_cores_have_until_its_deadline(
    monkeypatch: pytest.MonkeyPatch, cpu_s: int, deadline_s: float, most: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    limits = ChildLimits.within(memory_mb=512, cpu_s=cpu_s, deadline_s=deadline_s)
    assert limits == ChildLimits(memory_mb=512, cpu_s=most)
