"""Gathering a round: the coordinator's half of the secure sum, over the exchange.

Each update is folded into the running sum as it arrives; its bytes are deleted from the blob store
once the sum is known. What reaches this process is masked, sealed or signed; no single hospital's
update can be made from it (``tests/unit/privacy/secagg``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from db.models import HospitalMessage, MessageKind
from db.notify import Listener
from db.queries import messages, participations
from db.session import transaction
from fl.errors import WireError
from fl.messages import (
    decode_enrolment,
    decode_reveal,
    decode_upload,
    encode_cohort,
    encode_survivors,
)
from fl.secure_round import identities, sum_parameters
from fl.weights import layout
from privacy.errors import ProtocolError
from privacy.secagg.messages import Enrolment, Reveal, Upload
from privacy.secagg.secure_sum import SecureSum
from tasks.cohort import OpenedRound
from tasks.coordinator import Coordinator
from tasks.errors import HospitalRefused, HospitalSilent, SumRefused

_LISTEN_S: Final = 5.0
_BODIES: Final[tuple[MessageKind, ...]] = (
    "enrolment",
    "cohort",
    "upload",
    "survivors",
    "reveal",
)

Clock = Callable[[], float]
M = TypeVar("M", Enrolment, Upload, Reveal)


@dataclass(frozen=True, slots=True)
class GatheredSum:
    """The unmasked sum of a round's updates.

    Attributes:
        mean_update: float32, shape (parameters,): mean change of the weights; empty in an
            evaluation round.
        weight: sum of the hospitals' weights.
        counts: int64, shape (counters,): summed score histograms.
    """

    mean_update: NDArray[np.float32]
    weight: int
    counts: NDArray[np.int64]


@task(name="gather_masked_updates", cache_policy=NO_CACHE, persist_result=False)
def gather_masked_updates(
    coordinator: Coordinator, opened: OpenedRound, *, clock: Clock = time.monotonic
) -> GatheredSum:
    """Gathers enrolments, masked updates and reveals, and unmasks their sum.

    Raises:
        HospitalRefused: a hospital refused; the sum cannot be unmasked without it.
        HospitalSilent: a hospital did not answer before the round's deadline.
        SumRefused: a message does not fit the secure sum.
    """
    invitation = opened.invitation
    parameters = sum_parameters(invitation, parameters=layout(opened.state.weights).size)
    secure_sum = SecureSum(parameters, identities(invitation))
    with Listener(coordinator.engine) as listener:
        mailbox = _Mailbox(
            coordinator, opened, listener, deadline=clock() + invitation.deadline_s, clock=clock
        )
        try:
            cohort = secure_sum.begin(
                invitation.number,
                enrolments=mailbox.read(
                    "enrolment",
                    decode_enrolment,
                    partial(secure_sum.verify_enrolment, invitation.number),
                ),
                model_hash=bytes.fromhex(invitation.weights),
            )
            mailbox.post("cohort", {i: encode_cohort(view) for i, view in cohort.items()})
            decode = partial(decode_upload, parameters=parameters)
            for _ in mailbox.read("upload", decode, secure_sum.add):
                pass  # each is in the sum already
            survivors = secure_sum.close()
            mailbox.post("survivors", {i: encode_survivors(v) for i, v in survivors.items()})
            result = secure_sum.finish(
                mailbox.read("reveal", decode_reveal, secure_sum.verify_reveal)
            )
        except ProtocolError as error:
            raise SumRefused(f"{type(error).__name__}: {error}") from error
        finally:
            mailbox.delete_bodies()
    return GatheredSum(result.mean, result.weight, result.counts)


class _Mailbox:
    """The coordinator's end of a round's exchange."""

    def __init__(
        self,
        coordinator: Coordinator,
        opened: OpenedRound,
        listener: Listener,
        *,
        deadline: float,
        clock: Clock,
    ) -> None:
        self._coordinator = coordinator
        self._opened = opened
        self._listener = listener
        self._deadline = deadline
        self._clock = clock

    def collect(self, kind: HospitalMessage) -> Iterator[tuple[str, bytes]]:
        """Yields each hospital and its message as it comes, until all have sent one of the kind."""
        awaited = set(self._opened.hospital_ids)
        while awaited:
            arrived = [(h, d) for h, d in self._arrived(kind).items() if h in awaited]
            for hospital_id, digest in arrived:
                awaited.discard(hospital_id)
                yield hospital_id, self._coordinator.blobs.get(digest)
            if not awaited:
                return
            self._raise_refusal()
            left = self._deadline - self._clock()
            if left <= 0:
                self._mark_lost(awaited)
                raise HospitalSilent(
                    tuple(sorted(awaited)), kind, self._opened.invitation.deadline_s
                )
            if not arrived:
                self._listener.wait(min(left, _LISTEN_S))

    def read(
        self, kind: HospitalMessage, decode: Callable[[bytes], M], admit: Callable[[M], None]
    ) -> Iterator[M]:
        """Yields the hospitals' messages of a kind, each once it was decoded and admitted.

        Raises:
            SumRefused: a message cannot be read, breaks a rule of the secure sum, or speaks for
                another index; the text names the hospital that posted it.
        """
        for hospital_id, body in self.collect(kind):
            try:
                message = decode(body)
                if self._opened.invitation.index_of(hospital_id) != message.index:
                    raise SumRefused(
                        f"{hospital_id} posted a message in the name of {message.index}"
                    )
                admit(message)
            except (ProtocolError, WireError) as error:
                raise SumRefused(f"{hospital_id}: {type(error).__name__}: {error}") from error
            yield message

    def post(self, kind: MessageKind, bodies: dict[int, bytes]) -> None:
        """Posts a message to each hospital, by index, in one transaction."""
        digests = {index: self._coordinator.blobs.put(body) for index, body in bodies.items()}
        with transaction(self._coordinator.engine) as session:
            for index, body in bodies.items():
                messages.post_message(
                    session,
                    round_id=self._opened.round_id,
                    hospital_id=self._opened.hospital_at(index),
                    kind=kind,
                    digest=digests[index],
                    size_bytes=len(body),
                )

    def delete_bodies(self) -> None:
        """Removes the round's message bodies; their hashes stay in the database."""
        with transaction(self._coordinator.engine) as session:
            digests = [
                message.digest
                for kind in _BODIES
                for message in messages.list_messages(
                    session, round_id=self._opened.round_id, kind=kind
                )
            ]
        for digest in digests:
            self._coordinator.blobs.delete(digest)

    def _arrived(self, kind: HospitalMessage) -> dict[str, str]:
        with transaction(self._coordinator.engine) as session:
            found = messages.list_messages(session, round_id=self._opened.round_id, kind=kind)
            return {message.hospital_id: message.digest for message in found}

    def _raise_refusal(self) -> None:
        with transaction(self._coordinator.engine) as session:
            for participation in participations.participations(session, self._opened.round_id):
                if participation.state == "refused":
                    raise HospitalRefused(
                        participation.hospital_id,
                        participation.reason_code or "unknown",
                        participation.reason or "no reason given",
                    )

    def _mark_lost(self, hospital_ids: set[str]) -> None:
        with transaction(self._coordinator.engine) as session:
            for hospital_id in sorted(hospital_ids):
                participations.set_participation(
                    session,
                    round_id=self._opened.round_id,
                    hospital_id=hospital_id,
                    state="lost",
                    reason_code="silent",
                    reason="no answer before the round's deadline",
                    now=self._coordinator.now(),
                )
