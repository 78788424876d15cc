"""A hospital that is started by the command line joins the others."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

pytestmark = pytest.mark.e2e

NEWCOMER: Final = "hospital-4"


@pytest.fixture
def newcomer(stack: Any, eventually: Callable[..., Any]) -> Iterator[subprocess.Popen[bytes]]:
    """The command, once its hospital has published its keys."""
    data = stack.settings.home / "newcomer"
    shutil.copytree(stack.folders["hospital-1"], data)
    command = (sys.executable, "-m", "deployments.cli", "hospital", "start")
    options = ("--hospital-id", NEWCOMER, "--data-path", str(data))
    with subprocess.Popen([*command, *options], env=dict(stack.environment)) as process:
        try:
            eventually(lambda: published(stack, process), deadline_s=90)
            yield process
        finally:
            process.kill()


def published(stack: Any, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the command has ended"
    keys = {h["hospital_id"]: h["signing_key"] for h in stack.api.get("/hospitals")}
    return keys.get(NEWCOMER) is not None


def test_it_takes_part_in_the_next_training_and_ends_on_request(
    stack: Any, newcomer: subprocess.Popen[bytes]
) -> None:
    training = stack.train(rounds=1)
    assert training["state"] == "completed", training["reason"]
    states = [{h["hospital_id"]: h["state"] for h in r["hospitals"]} for r in training["rounds"]]
    everybody = dict.fromkeys([*stack.folders, NEWCOMER], "revealed")
    assert states == [everybody, everybody]
    newcomer.send_signal(signal.SIGTERM)
    newcomer.wait(timeout=20)
