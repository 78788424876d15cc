"""The coordinator's end of a round's exchange: who has answered, who is out and why.

    mailbox = Mailbox(coordinator, opened, listener, clock=time.monotonic)
    stage = Stage("upload", awaited=hospital_ids, least=3, closes_at=deadline)
    for upload in mailbox.read(stage, decode_upload, secure_sum.add):
        ...                                       # whoever is missing now is in mailbox.losses

A hospital is out when it refuses, when its message cannot be used, or when it stays silent: until
the stage closes, or for longer than a multiple of what the others took once enough of them are
there. The round goes on without it as long as the secure sum allows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from db.errors import Conflict
from db.models import HospitalMessage, MessageKind
from db.notify import Listener
from db.queries import messages, participations
from db.session import transaction
from fl.errors import WireError
from privacy.errors import ProtocolError
from privacy.secagg.messages import Echo, Enrolment, Reveal, Upload
from tasks.cohort import OpenedRound
from tasks.coordinator import Coordinator
from tasks.errors import HospitalRefused, HospitalSilent, RoundFailed, SumRefused

_LISTEN_S: Final = 5.0
_LEAST_PATIENCE_S: Final = 5.0
_PATIENCE_FACTOR: Final = 2.0
_BODIES: Final[tuple[MessageKind, ...]] = (
    *("enrolment", "cohort", "upload", "survivors", "echo", "certificate", "reveal"),
)

Clock = Callable[[], float]
M = TypeVar("M", Enrolment, Upload, Echo, Reveal)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One kind of message, from those who owe it.

    Attributes:
        kind: the message.
        awaited: the hospitals that owe it.
        least: with fewer of them the round cannot be finished.
        closes_at: when the stage is over, on the mailbox's clock.
        seconds: how long the stage may take in all, for the text of a refusal.
    """

    kind: HospitalMessage
    awaited: Collection[str]
    least: int
    closes_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Loss:
    """A hospital that is out of a round: at which message, under which code, why."""

    hospital_id: str
    kind: HospitalMessage
    code: str
    reason: str


class Mailbox:
    """A round's messages, as the coordinator posts and reads them."""

    def __init__(
        self, coordinator: Coordinator, opened: OpenedRound, listener: Listener, *, clock: Clock
    ) -> None:
        self._coordinator = coordinator
        self._opened = opened
        self._listener = listener
        self._clock = clock
        self._losses: dict[str, Loss] = {}

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The hospitals that are out, in the order they went."""
        return tuple(self._losses.values())

    def remaining(self, hospital_ids: Collection[str]) -> tuple[str, ...]:
        """Returns those of the hospitals that are not out."""
        return tuple(h for h in hospital_ids if h not in self._losses)

    def read(
        self, stage: Stage, decode: Callable[[bytes], M], admit: Callable[[M], None]
    ) -> Iterator[M]:
        """Yields the messages of a stage, each once it was decoded and admitted.

        Raises:
            HospitalRefused, HospitalSilent, SumRefused: too few hospitals are left to finish the
                round; the error is the loss that was one too many.
        """
        started = self._clock()
        patience_ends: float | None = None
        awaited = set(self.remaining(stage.awaited))
        usable = 0
        while awaited:
            self._lose_gone(stage, awaited)
            arrived = [(h, d) for h, d in self._arrived(stage.kind).items() if h in awaited]
            for hospital_id, digest in arrived:
                awaited.discard(hospital_id)
                message = self._admitted(stage, hospital_id, digest, decode, admit)
                if message is not None:
                    usable += 1
                    yield message
            self._require_enough(stage, usable + len(awaited))
            if not awaited:
                return
            now = self._clock()
            if usable >= stage.least and patience_ends is None:
                patience = max(_LEAST_PATIENCE_S, _PATIENCE_FACTOR * (now - started))
                patience_ends = now + patience
            ends = min(stage.closes_at, patience_ends or stage.closes_at)
            if now >= ends:
                self._lose_silent(stage, awaited)
                self._require_enough(stage, usable)
                return
            if not arrived:
                self._listener.wait(min(ends - now, _LISTEN_S))

    def post(self, kind: MessageKind, bodies: Mapping[int, bytes]) -> None:
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

    def _admitted(
        self,
        stage: Stage,
        hospital_id: str,
        digest: str,
        decode: Callable[[bytes], M],
        admit: Callable[[M], None],
    ) -> M | None:
        """Returns a message that can be used; otherwise its sender is out."""
        try:
            message = decode(self._coordinator.blobs.get(digest))
            if self._opened.invitation.index_of(hospital_id) != message.index:
                raise ProtocolError(f"it is in the name of party {message.index}")
            admit(message)
        except (ProtocolError, WireError) as error:
            self._lose(stage, hospital_id, "bad-message", f"{type(error).__name__}: {error}")
            return None
        return message

    def _arrived(self, kind: HospitalMessage) -> dict[str, str]:
        with transaction(self._coordinator.engine) as session:
            found = messages.list_messages(session, round_id=self._opened.round_id, kind=kind)
            return {message.hospital_id: message.digest for message in found}

    def _lose_gone(self, stage: Stage, awaited: set[str]) -> None:
        """Takes out who has refused, and whom somebody else has declared lost, as suspended."""
        with transaction(self._coordinator.engine) as session:
            found = participations.participations(session, self._opened.round_id)
        for participation in found:
            if participation.hospital_id in awaited and participation.state in ("refused", "lost"):
                awaited.discard(participation.hospital_id)
                self._losses[participation.hospital_id] = Loss(
                    participation.hospital_id,
                    stage.kind,
                    participation.reason_code or "unknown",
                    participation.reason or "no reason given",
                )

    def _lose_silent(self, stage: Stage, hospital_ids: Collection[str]) -> None:
        for hospital_id in sorted(hospital_ids):
            self._lose(stage, hospital_id, "silent", f"no {stage.kind} in time")

    def _lose(self, stage: Stage, hospital_id: str, code: str, reason: str) -> None:
        self._losses[hospital_id] = Loss(hospital_id, stage.kind, code, reason)
        try:
            with transaction(self._coordinator.engine) as session:
                participations.set_participation(
                    session,
                    round_id=self._opened.round_id,
                    hospital_id=hospital_id,
                    state="lost",
                    reason_code=code,
                    reason=reason,
                    now=self._coordinator.now(),
                )
        except Conflict:
            return  # it has sent its last message, which could not be used, or refused just now

    def _require_enough(self, stage: Stage, left: int) -> None:
        """Raises the last loss when with those that are left the round cannot be finished."""
        if left >= stage.least:
            return
        *_, last = self.losses
        raise self._failure(stage, last)

    def _failure(self, stage: Stage, loss: Loss) -> RoundFailed:
        if loss.code == "silent":
            silent = tuple(lost.hospital_id for lost in self.losses if lost.code == "silent")
            return HospitalSilent(silent, loss.kind, stage.seconds)
        if loss.code == "bad-message":
            return SumRefused(f"{loss.hospital_id}: {loss.kind}: {loss.reason}")
        return HospitalRefused(loss.hospital_id, loss.code, loss.reason)
