"""Several hospitals on one machine, for the demo and for tests.

``python -m deployments.stack.hospitals hospital-1=DATA hospital-2=DATA …`` imports everything once
and forks a process for each hospital, so that they share the imported pages. Each has its own keys,
store, worker and confined warm process, as it would on its own machine, and a policy that asks
nobody, since one person runs them all and installed what they run. When one ends, all end.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

import tenacity

from deployments.hospital import run_hospital
from deployments.policy_files import write_unattended_policy
from deployments.preload import preload
from deployments.settings import StackSettings
from deployments.warm import die_with_parent
from tasks.hospital.allowed_flows import approve_code
from tasks.hospital.site import SiteIncomplete, SiteSettings, read_credential

_CREDENTIAL_DEADLINE_S: Final = 180.0


def main(pairs: list[str]) -> int:
    """Runs the hospitals until one of them ends or this process is told to."""
    stack = StackSettings()
    installed = preload()
    # Keeps the collector of every hospital's process from writing to, and so copying, shared pages.
    gc.collect()
    gc.freeze()
    children = [
        _fork(stack.site(hospital_id, Path(path)), installed)
        for hospital_id, path in (pair.split("=", 1) for pair in pairs)
    ]

    def end_all(signum: int, frame: FrameType | None) -> None:
        for pid in children:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end_all)
    ended, status = os.wait()
    children.remove(ended)
    end_all(signal.SIGTERM, None)
    return os.waitstatus_to_exitcode(status)


def _fork(settings: SiteSettings, installed: Mapping[str, str]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent(parent)
        write_unattended_policy(settings)
        approve_code(settings, installed, now=datetime.now(UTC))
        _await_credential(settings)
        run_hospital(settings)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # a worker does not end by itself; skip the parent's clean-up


def _await_credential(settings: SiteSettings) -> None:
    """Waits until the supervisor has added the hospital and left its credential here."""
    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(SiteIncomplete),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(_CREDENTIAL_DEADLINE_S),
        reraise=True,
    )(read_credential, settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
