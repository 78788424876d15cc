"""Gathering a round: the coordinator's half of the secure sum, over the exchange.

1. *Enrolments.* Those that arrive fix the cohort; each of it is shown the others' keys.
2. *Uploads.* Each masked update is folded into the running sum as it arrives. Those whose update
   arrived are the survivors.
3. *Echoes*, when the cohort lost a hospital: a quorum of survivors signs that it accepts the set.
4. *Reveals.* A quorum of them opens the sum, and no single update.

The round goes on without a hospital that is lost on the way, as long as a quorum is left. With
three hospitals none can be spared: a sum of two would show each of them the other's update.

What reaches this process is masked, sealed or signed; no single hospital's update can be made from
it (``tests/integration/tasks/confidentiality``). Message bodies are deleted when the round ends,
whichever way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from db.models import HospitalMessage
from db.notify import Listener
from fl.messages import (
    decode_echo,
    decode_enrolment,
    decode_reveal,
    decode_upload,
    encode_certificate,
    encode_cohort,
    encode_survivors,
)
from fl.secure_round import identities, sum_parameters
from fl.weights import layout
from privacy.errors import ProtocolError
from privacy.secagg.quantiser import SumResult
from privacy.secagg.secure_sum import SecureSum
from tasks.cohort import OpenedRound
from tasks.coordinator import Coordinator
from tasks.errors import SumRefused
from tasks.mailbox import Clock, Loss, Mailbox, Stage

# By when each stage is over, as parts of the round's deadline. Training falls before the upload.
_STAGE_ENDS: Final[dict[HospitalMessage, float]] = {
    "enrolment": 0.25,
    "upload": 0.8,
    "echo": 0.9,
    "reveal": 1.0,
}


@dataclass(frozen=True, slots=True)
class GatheredSum:
    """The unmasked sum of a round's updates.

    Attributes:
        mean_update: float32, shape (parameters,): mean change of the weights; empty in an
            evaluation round.
        weight: sum of the hospitals' weights.
        counts: int64, shape (counters,): summed score histograms and their noise.
        hospital_ids: the hospitals in the sum.
        losses: the hospitals that the round went on without.
        faults: revealed shares that were wrong and could be spared, in words.
    """

    mean_update: NDArray[np.float32]
    weight: int
    counts: NDArray[np.int64]
    hospital_ids: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()
    faults: tuple[str, ...] = ()


@task(name="gather_masked_updates", cache_policy=NO_CACHE, persist_result=False)
def gather_masked_updates(
    coordinator: Coordinator, opened: OpenedRound, *, clock: Clock = time.monotonic
) -> GatheredSum:
    """Gathers enrolments, masked updates, echoes and reveals, and unmasks their sum.

    Raises:
        HospitalRefused: a hospital refused, and without it too few are left.
        HospitalSilent: a hospital did not answer in time, and without it too few are left.
        SumRefused: a message cannot be used, and without its sender too few are left; or the sum
            cannot be opened.
    """
    with Listener(coordinator.engine) as listener:
        mailbox = Mailbox(coordinator, opened, listener, clock=clock)
        try:
            result = _Gathering(opened, mailbox, clock).run()
        except ProtocolError as error:
            raise SumRefused(f"{type(error).__name__}: {error}") from error
        finally:
            mailbox.delete_bodies()
    name = opened.hospital_at
    return GatheredSum(
        mean_update=result.mean,
        weight=result.weight,
        counts=result.counts,
        hospital_ids=tuple(name(index) for index in result.parties),
        losses=mailbox.losses,
        faults=tuple(
            f"{name(fault.revealer)}: share of {name(fault.dealer)}: {fault.reason}"
            for fault in result.faults
        ),
    )


class _Gathering:
    """One round's way through its stages."""

    def __init__(self, opened: OpenedRound, mailbox: Mailbox, clock: Clock) -> None:
        self._opened = opened
        self._mailbox = mailbox
        self._began = clock()
        self._parameters = sum_parameters(
            opened.invitation, parameters=layout(opened.state.weights).size
        )
        self._least_sum = max(opened.least_cohort, self._parameters.quorum)
        self._secure_sum = SecureSum(
            self._parameters,
            identities(opened.invitation),
            least_cohort=self._least_sum,
            workers=len(os.sched_getaffinity(0)),
        )

    def run(self) -> SumResult:
        """Returns the opened sum."""
        cohort = self._enrol()
        survivors = self._upload(cohort)
        if self._secure_sum.needs_echo:
            self._echo(survivors)
        return self._reveal(survivors)

    def _enrol(self) -> tuple[str, ...]:
        number = self._opened.invitation.number
        stage = self._stage("enrolment", self._opened.hospital_ids, least=self._least_sum)
        admit = partial(self._secure_sum.verify_enrolment, number)
        views = self._secure_sum.begin(
            number,
            enrolments=self._mailbox.read(stage, decode_enrolment, admit),
            model_hash=bytes.fromhex(self._opened.invitation.weights),
        )
        self._mailbox.post("cohort", {i: encode_cohort(view) for i, view in views.items()})
        return self._named(views)

    def _upload(self, cohort: tuple[str, ...]) -> tuple[str, ...]:
        stage = self._stage("upload", cohort, least=self._least_sum)
        decode = partial(decode_upload, parameters=self._parameters)
        for _ in self._mailbox.read(stage, decode, self._secure_sum.add):
            pass  # each is in the sum already
        views = self._secure_sum.close()
        self._mailbox.post("survivors", {i: encode_survivors(view) for i, view in views.items()})
        return self._named(views)

    def _echo(self, survivors: tuple[str, ...]) -> None:
        stage = self._stage("echo", survivors, least=self._parameters.quorum)
        for _ in self._mailbox.read(stage, decode_echo, self._secure_sum.add_echo):
            pass  # each is noted already
        certificate = encode_certificate(self._secure_sum.certificate())
        still_here = self._mailbox.remaining(survivors)
        index_of = self._opened.invitation.index_of
        self._mailbox.post("certificate", {index_of(h): certificate for h in still_here})

    def _reveal(self, survivors: tuple[str, ...]) -> SumResult:
        stage = self._stage("reveal", survivors, least=self._parameters.quorum)
        return self._secure_sum.finish(
            self._mailbox.read(stage, decode_reveal, self._secure_sum.verify_reveal)
        )

    def _stage(self, kind: HospitalMessage, awaited: tuple[str, ...], *, least: int) -> Stage:
        seconds = _STAGE_ENDS[kind] * self._opened.invitation.deadline_s
        return Stage(
            kind=kind,
            awaited=awaited,
            least=least,
            closes_at=self._began + seconds,
            seconds=seconds,
        )

    def _named(self, views: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._opened.hospital_at(index) for index in sorted(views))
