"""The coordinator's half of a secure sum: it sees masked vectors, and the sum.

    secure_sum = SecureSum(parameters, roster)
    views = secure_sum.begin(7, enrolments=enrolments, model_hash=h)    # one for each party
    for upload in arriving: secure_sum.add(upload)
    views = secure_sum.close()
    result = secure_sum.finish(reveals)

1. *Begin.* Check each enrolment under the pinned identity of its sender; fix the cohort; show each
   party the cohort's keys and the shares sealed for it.
2. *Add.* Check each upload as it arrives and fold its masked vector into one running sum; no vector
   is kept, so that memory does not grow with the number of parties.
3. *Close.* If a party of the cohort is missing, its pair masks remain in the sum: refuse, naming
   it. Else show each party the signatures of all uploads and the shares sealed for it.
4. *Finish.* From the revealed shares rebuild each party's seed (Shamir 1979), hold it to its
   commitment, subtract its self mask. The pair masks have cancelled; read the sum.

Source: Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS
2017; ``privacy.secagg.participant`` gives the other half and the differences. The coordinator is
not trusted: its checks serve to name who broke a rule, the parties' own checks protect them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from privacy.errors import CohortRefused, ProtocolError, RoundReused, ShareRefused
from privacy.secagg.admission import verify_enrolment, verify_reveal, verify_upload
from privacy.secagg.context import (
    check_round_number,
    round_context,
    seed_commitment,
    self_mask_key,
)
from privacy.secagg.keys import PublicIdentity, check_roster
from privacy.secagg.masking import MaskedVector, apply_masks
from privacy.secagg.messages import CohortView, Enrolment, Reveal, SurvivorView, Upload
from privacy.secagg.parameters import SumParameters
from privacy.secagg.quantiser import SumResult, read_sum
from privacy.secagg.shamir import combine


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What is kept of an upload: all but its vector."""

    digest: bytes
    commitment: bytes
    signature: bytes
    sealed_shares: Mapping[int, bytes]


@dataclass(slots=True)
class _Round:
    """The open round."""

    number: int
    cohort: tuple[int, ...]
    context: bytes
    total: MaskedVector
    receipts: dict[int, _Receipt] = field(default_factory=dict)
    closed: bool = False


class SecureSum:
    """The coordinator of a session; one round is open at a time.

    Args:
        parameters: the coordinator's own copy.
        roster: the identity of every party.

    Raises:
        ParametersRefused: the roster does not fit the parameters.
    """

    def __init__(self, parameters: SumParameters, roster: Mapping[int, PublicIdentity]) -> None:
        self._parameters = parameters
        self._roster = check_roster(roster, parameters)
        self._round: _Round | None = None
        self._last_round = 0

    def verify_enrolment(self, round_number: int, enrolment: Enrolment) -> None:
        """Returns only if an enrolment is well-formed and signed by its sender.

        Call it as enrolments arrive, to leave out a party whose enrolment is bad.

        Raises:
            CohortRefused: sender, round or receivers of the shares are wrong.
            SignatureRefused: it is not signed by its sender.
        """
        verify_enrolment(
            enrolment, round_number=round_number, parameters=self._parameters, roster=self._roster
        )

    def begin(
        self, round_number: int, *, enrolments: Iterable[Enrolment], model_hash: bytes
    ) -> dict[int, CohortView]:
        """Opens a round with the parties that enrolled; an earlier round is given up.

        Args:
            round_number: larger than that of any earlier round.
            enrolments: one of each party of the cohort.
            model_hash: SHA-256 of the weights the round starts from, 32 bytes.

        Returns:
            What to send to each party of the cohort, by its index.

        Raises:
            RoundReused: the number is not larger than the last one.
            CohortRefused: a party enrolled twice, or fewer than the quorum did.
            SignatureRefused: an enrolment is not its sender's.
        """
        check_round_number(round_number)
        if round_number <= self._last_round:
            raise RoundReused(f"round {round_number} does not follow round {self._last_round}")
        enrolled: dict[int, Enrolment] = {}
        for enrolment in enrolments:
            self.verify_enrolment(round_number, enrolment)
            if enrolment.index in enrolled:
                raise CohortRefused(f"party {enrolment.index} enrolled twice")
            enrolled[enrolment.index] = enrolment
        if len(enrolled) < self._parameters.quorum:
            raise CohortRefused(
                f"{len(enrolled)} parties enrolled ({sorted(enrolled)}), below the quorum "
                f"{self._parameters.quorum}"
            )
        cohort = tuple(sorted(enrolled))
        public_keys = {index: enrolled[index].public_key for index in cohort}
        context = round_context(
            parameters=self._parameters,
            round_number=round_number,
            model_hash=model_hash,
            public_keys=public_keys,
            roster=self._roster,
        )
        total = np.zeros(self._parameters.length, self._parameters.dtype)
        self._round = _Round(round_number, cohort, context, total)
        self._last_round = round_number
        signatures = {index: enrolled[index].signature for index in cohort}
        sealed = {index: enrolled[index].sealed_shares for index in cohort}
        return {
            receiver: CohortView(
                round_number, public_keys, signatures, _addressed_to(receiver, sealed)
            )
            for receiver in cohort
        }

    def add(self, upload: Upload) -> None:
        """Checks an upload and folds its masked vector into the sum; the vector is not kept.

        Raises:
            RoundReused: its sender has uploaded before, or the round is closed.
            CohortRefused: sender, round or receivers of the shares are wrong.
            InputRefused: the vector has another size or type than agreed.
            SignatureRefused: it is not signed by its sender under this round's context.
        """
        open_round = self._open_round()
        if open_round.closed:
            raise RoundReused(f"round {open_round.number} is closed to uploads")
        if upload.index in open_round.receipts:
            raise RoundReused(
                f"party {upload.index} has uploaded in round {open_round.number} before"
            )
        masked, content = verify_upload(
            upload,
            round_number=open_round.number,
            cohort=open_round.cohort,
            context=open_round.context,
            parameters=self._parameters,
            roster=self._roster,
        )
        np.add(open_round.total, masked, out=open_round.total)
        open_round.receipts[upload.index] = _Receipt(
            content, upload.commitment, upload.signature, dict(upload.sealed_shares)
        )

    def missing(self) -> tuple[int, ...]:
        """Returns the parties of the cohort whose upload has not arrived, ascending.

        Raises:
            ProtocolError: no round is open.
        """
        open_round = self._open_round()
        return tuple(index for index in open_round.cohort if index not in open_round.receipts)

    def close(self) -> dict[int, SurvivorView]:
        """Closes the round to uploads.

        Returns:
            What to send to each party, by its index.

        Raises:
            CohortRefused: uploads are missing; the message names their parties.
            ProtocolError: no round is open.
        """
        open_round = self._open_round()
        missing = self.missing()
        if missing:
            raise CohortRefused(
                f"round {open_round.number}: no upload of parties {list(missing)} arrived; "
                f"their masks remain in the sum, so the round cannot be finished"
            )
        open_round.closed = True
        receipts = open_round.receipts
        digests = {index: receipts[index].digest for index in open_round.cohort}
        signatures = {index: receipts[index].signature for index in open_round.cohort}
        sealed = {index: receipts[index].sealed_shares for index in open_round.cohort}
        return {
            receiver: SurvivorView(
                open_round.number, digests, signatures, _addressed_to(receiver, sealed)
            )
            for receiver in open_round.cohort
        }

    def verify_reveal(self, reveal: Reveal) -> None:
        """Returns only if a reveal is well-formed and signed by its sender.

        Call it as reveals arrive, to leave out a party whose reveal is bad.

        Raises:
            ProtocolError: the round is not closed.
            CohortRefused: sender, round or shares are wrong.
            SignatureRefused: it is not signed by its sender under this round's context.
        """
        closed_round = self._closed_round()
        verify_reveal(
            reveal,
            round_number=closed_round.number,
            cohort=closed_round.cohort,
            context=closed_round.context,
            roster=self._roster,
        )

    def finish(self, reveals: Iterable[Reveal]) -> SumResult:
        """Removes the self masks and reads the sum; the round is over.

        A quorum of reveals is enough. After a refusal the round can be finished with other reveals.

        Raises:
            ProtocolError: the round is not closed, or its sum is outside what can have been sent.
            CohortRefused: fewer reveals than the quorum, or two of one party.
            SignatureRefused: a reveal is not its sender's.
            ShareRefused: shares do not give the seed that their dealer committed to.
        """
        closed_round = self._closed_round()
        answers: dict[int, Reveal] = {}
        for reveal in reveals:
            self.verify_reveal(reveal)
            if reveal.index in answers:
                raise CohortRefused(f"party {reveal.index} revealed twice")
            answers[reveal.index] = reveal
        quorum = self._parameters.quorum
        if len(answers) < quorum:
            raise CohortRefused(
                f"{len(answers)} parties revealed ({sorted(answers)}), below the quorum {quorum}"
            )
        chosen = [answers[index] for index in sorted(answers)[:quorum]]
        keys = [
            self_mask_key(_rebuild_seed(closed_round, dealer, chosen), closed_round.context)
            for dealer in closed_round.cohort
        ]
        apply_masks(closed_round.total, add=[], subtract=keys)
        self._round = None
        return read_sum(
            closed_round.total, parameters=self._parameters, parties=closed_round.cohort
        )

    def _open_round(self) -> _Round:
        """Returns the round."""
        if self._round is None:
            raise ProtocolError("no round is open: begin one with its enrolments")
        return self._round

    def _closed_round(self) -> _Round:
        """Returns the round if it waits for reveals."""
        current = self._open_round()
        if not current.closed:
            raise ProtocolError(f"round {current.number} is not closed: close it before reveals")
        return current


def _rebuild_seed(closed_round: _Round, dealer: int, reveals: Iterable[Reveal]) -> bytes:
    """Combines the shares of a party's seed and holds the result to the party's commitment."""
    shares = {reveal.index: reveal.shares[dealer] for reveal in reveals}
    seed = combine(shares)
    commitment = closed_round.receipts[dealer].commitment
    if seed_commitment(seed, closed_round.context, index=dealer) != commitment:
        raise ShareRefused(
            f"the shares of party {dealer}'s self mask that parties {sorted(shares)} revealed do "
            f"not give what it committed to: one of them, or party {dealer}, broke the rules"
        )
    return seed


def _addressed_to(receiver: int, sealed: Mapping[int, Mapping[int, bytes]]) -> dict[int, bytes]:
    """Returns the shares that the others sealed for the receiver, by their sender."""
    return {sender: shares[receiver] for sender, shares in sealed.items() if sender != receiver}
