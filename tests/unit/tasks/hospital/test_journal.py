"""A hospital whose process is killed, with SIGKILL, at any write of its journal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from db.site_store import SiteStore
from privacy.errors import RoundReused
from privacy.secagg import CohortView, Identity, Participant, SumParameters, SurvivorView
from tasks.hospital.journal import SiteJournal

TRAINING = UUID(int=7)

# A round of five in one process, with a loss; party 1 keeps its journal on disk. It prints what it
# has answered, and dies at the k-th write, before or after it.
CHILD = """
import os, signal, sys
from pathlib import Path
from uuid import UUID
import numpy as np
from db.site_store import SiteStore
from privacy.secagg import Identity, MemoryJournal, Participant, SecureSum, SumParameters
from tasks.hospital.journal import SiteJournal

path, at, after_writing = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "after"

class Deadly:
    def __init__(self, journal):
        self.journal, self.calls = journal, 0
    def record(self, *step):
        self.calls += 1
        if self.calls == at and not after_writing:
            os.kill(os.getpid(), signal.SIGKILL)
        self.journal.record(*step)
        if self.calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
    def recorded(self, number):
        return self.journal.recorded(number)

training = UUID(int=7)
generator = np.random.default_rng(0)
parameters = SumParameters(session=training.bytes, roster=(1, 2, 3, 4, 5), quorum=4, dimension=3)
keys = {i: Identity.generate(generator.bytes) for i in parameters.roster}
roster = {i: identity.public for i, identity in keys.items()}
journals = {i: MemoryJournal() for i in parameters.roster}
journals[1] = Deadly(SiteJournal(SiteStore(path).journal(training)))
parties = {i: Participant(i, parameters, keys[i], roster, journal=journals[i]) for i in keys}
coordinator = SecureSum(parameters, roster)

def answered(index, what, answer):
    if index == 1:
        print(what, flush=True)
    return answer

enrolments = [answered(i, "enrolled", parties[i].enrol(1)) for i in (2, 3, 4, 5, 1)]
views = coordinator.begin(1, enrolments=enrolments, model_hash=bytes(32))
for i in (2, 3, 4, 1):
    inputs = {"model_hash": bytes(32), "vector": np.zeros(3, np.float32), "weight": 1, "counts": []}
    coordinator.add(answered(i, "uploaded", parties[i].upload(1, views[i], **inputs)))
views = coordinator.close()
for i in (2, 3, 4, 1):
    coordinator.add_echo(answered(i, "echoed", parties[i].echo(1, views[i])))
certificate = coordinator.certificate()
reveals = [answered(i, "revealed", parties[i].reveal(1, views[i], certificate)) for i in views]
print("sum", int(coordinator.finish(reveals).weight), flush=True)
"""
# enrolled, uploaded, survivors at the echo, survivors and revealed at the reveal
WRITES = 5
ANSWERS = ("enrolled", "uploaded", "echoed")
STEPS = ("enrolled", "uploaded", "survivors", "survivors", "revealed")


def run_child(path: Path, at: int, when: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(at), when],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.split()


def restarted(path: Path) -> Participant:
    """Party 1 with the keys and the store that the killed process had."""
    generator = np.random.default_rng(0)
    parameters = SumParameters(
        session=TRAINING.bytes, roster=(1, 2, 3, 4, 5), quorum=4, dimension=3
    )
    keys = {index: Identity.generate(generator.bytes) for index in parameters.roster}
    return Participant(
        1,
        parameters,
        keys[1],
        {index: identity.public for index, identity in keys.items()},
        journal=SiteJournal(SiteStore(path).journal(TRAINING)),
    )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_killed_at_any_write_it_gives_no_second_answer(tmp_path: Path, at: int, when: str) -> None:
    path = tmp_path / "site.db"
    code, answered = run_child(path, at, when)
    assert code == -signal.SIGKILL
    assert answered == list(ANSWERS[: at - 1])

    party = restarted(path)
    steps = STEPS[: at if when == "after" else at - 1]
    assert tuple(SiteStore(path).journal(TRAINING).recorded(1)) == tuple(dict.fromkeys(steps))
    if not steps:
        assert party.enrol(1).index == 1  # nothing was said: the round is new to it
        return
    view = SurvivorView(1, {}, {}, {}, {}, {})
    for ask in (
        lambda: party.enrol(1),
        lambda: party.upload(
            1,
            CohortView(1, {}, {}, {}, {}),
            model_hash=bytes(32),
            vector=np.zeros(3, np.float32),
            weight=1,
            counts=[],
        ),
        lambda: party.echo(1, view),
        lambda: party.reveal(1, view),
    ):
        with pytest.raises(RoundReused, match="its secrets died with the process"):
            ask()


def test_left_alone_it_finishes_the_round_and_the_next_process_does_not_repeat_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "site.db"
    assert run_child(path, 0, "before") == (0, [*ANSWERS, "revealed", "sum", "4"])
    with pytest.raises(RoundReused, match=r"\(enrolled, uploaded, survivors, revealed\)"):
        restarted(path).enrol(1)


def test_a_step_that_is_there_already_is_a_round_reused(tmp_path: Path) -> None:
    journal = SiteJournal(SiteStore(tmp_path / "site.db").journal(TRAINING))
    journal.record(1, "uploaded", bytes(32))
    with pytest.raises(RoundReused, match="the journal holds the step 'uploaded' already"):
        journal.record(1, "uploaded", bytes(32))
