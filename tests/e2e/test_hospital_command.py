"""A hospital that is started by the command line accepts the others and joins them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from deployments.policy_files import write_unattended_policy
from tasks.hospital.site import open_site

pytestmark = pytest.mark.e2e

NEWCOMER: Final = "hospital-4"


@pytest.fixture
def newcomer(stack: Any, eventually: Callable[..., Any]) -> Iterator[subprocess.Popen[bytes]]:
    """The command, once its hospital has published its keys."""
    data = stack.settings.home / "newcomer"
    shutil.copytree(stack.folders["hospital-1"], data)
    write_unattended_policy(stack.settings.site(NEWCOMER, data))
    command = (sys.executable, "-m", "deployments.cli", "hospital", "start")
    options = ("--hospital-id", NEWCOMER, "--data-path", str(data))
    with subprocess.Popen([*command, *options], env=dict(stack.environment)) as process:
        try:
            eventually(lambda: published(stack, process), deadline_s=90)
            yield process
        finally:
            process.kill()


def fedmed_hospital(stack: Any, command: str, *arguments: str) -> str:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "deployments.cli", "hospital", command),
            *("--hospital-id", NEWCOMER, *arguments),
        ],
        env={**stack.environment, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def peers(stack: Any) -> dict[str, tuple[str, str]]:
    """Fingerprint and state of each hospital, as the newcomer's people see them."""
    lines = fedmed_hospital(stack, "peers").splitlines()
    rows = [[cell.strip() for cell in line.split("│")] for line in lines if "│" in line]
    return {name: (fingerprint, state) for _, name, fingerprint, state, _ in rows}


def own_fingerprints(stack: Any) -> dict[str, str]:
    """What the other hospitals' people would tell on the telephone: from their own keys."""
    return {
        hospital_id: open_site(
            stack.settings.site(hospital_id, folder)
        ).identity.public.fingerprint()
        for hospital_id, folder in stack.folders.items()
    }


def published(stack: Any, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the command has ended"
    keys = {h["hospital_id"]: h["signing_key"] for h in stack.api.get("/hospitals")}
    return keys.get(NEWCOMER) is not None


def test_it_takes_part_in_the_next_training_and_ends_on_request(
    stack: Any, newcomer: subprocess.Popen[bytes]
) -> None:
    told = own_fingerprints(stack)
    assert peers(stack) == {name: (told[name], "not accepted") for name in told}
    for name, fingerprint in told.items():
        fedmed_hospital(stack, "accept", name, fingerprint)
    assert peers(stack) == {name: (told[name], "accepted") for name in told}

    training = stack.train(rounds=1)
    assert training["state"] == "completed", training["reason"]
    states = [{h["hospital_id"]: h["state"] for h in r["hospitals"]} for r in training["rounds"]]
    everybody = dict.fromkeys([*stack.folders, NEWCOMER], "revealed")
    assert states == [everybody, everybody]
    newcomer.send_signal(signal.SIGTERM)
    newcomer.wait(timeout=20)
