"""The coordinator's half of a secure sum: it sees masked vectors, and the sum.

    secure_sum = SecureSum(parameters, roster)
    views = secure_sum.begin(7, enrolments=enrolments, model_hash=h)    # one for each party
    for upload in arriving: secure_sum.add(upload)
    views = secure_sum.close()
    if secure_sum.needs_echo:                                           # a party was lost
        for echo in arriving: secure_sum.add_echo(echo)
        certificate = secure_sum.certificate()
    result = secure_sum.finish(reveals)

1. *Begin.* Check each enrolment under the pinned identity of its sender; fix the cohort; show each
   party the cohort's keys and the shares sealed for it.
2. *Add.* Check each upload as it arrives and fold its masked vector into one running sum; no vector
   is kept, so that memory does not grow with the number of parties.
3. *Close.* The parties whose upload arrived are the survivors: at least a quorum, or the round
   cannot be finished. Show each of them all uploads' digests and the shares sealed for it.
4. After a loss, collect echoes of a quorum of the survivors into a certificate.
5. *Finish.* From the revealed shares that fit their dealers' commitments rebuild each survivor's
   seed and each dropped party's round key (``recovery``); remove the survivors' self masks and the
   pair masks that the dropped parties would have cancelled. Read the sum.

Source: Bonawitz et al., Practical secure aggregation for privacy-preserving machine learning, CCS
2017; ``privacy.secagg.participant`` gives the other half and the differences. The coordinator is
not trusted: its checks serve to name who broke a rule, the parties' own checks protect them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from privacy.errors import CertificateRefused, CohortRefused, ProtocolError, RoundReused
from privacy.secagg.admission import verify_echo, verify_enrolment, verify_reveal, verify_upload
from privacy.secagg.context import check_round_number
from privacy.secagg.keys import PublicIdentity, check_roster
from privacy.secagg.masking import apply_masks
from privacy.secagg.messages import (
    Certificate,
    CohortView,
    Echo,
    Enrolment,
    Reveal,
    SurvivorView,
    Upload,
)
from privacy.secagg.parameters import LEAST_QUORUM, SumParameters
from privacy.secagg.quantiser import SumResult, read_sum
from privacy.secagg.recovery import Recovery
from privacy.secagg.tally import Tally


class SecureSum:
    """The coordinator of a session; one round is open at a time.

    Args:
        parameters: the coordinator's own copy.
        roster: the identity of every party.
        least_cohort: the fewest parties of a cohort and of a sum, if more than the quorum.
        workers: processes that share the removal of masks from a large vector.

    Raises:
        ParametersRefused: the roster or least_cohort does not fit the parameters.
    """

    def __init__(
        self,
        parameters: SumParameters,
        roster: Mapping[int, PublicIdentity],
        *,
        least_cohort: int = LEAST_QUORUM,
        workers: int = 1,
    ) -> None:
        parameters.check_least_cohort(least_cohort)
        self._parameters = parameters
        self._roster = check_roster(roster, parameters)
        self._least = max(least_cohort, parameters.quorum)
        self._workers = workers
        self._round: Tally | None = None
        self._last_round = 0

    def verify_enrolment(self, round_number: int, enrolment: Enrolment) -> None:
        """Returns only if an enrolment is well-formed and signed by its sender.

        Call it as enrolments arrive, to leave out a party whose enrolment is bad.

        Raises:
            CohortRefused, SignatureRefused, ProtocolError: see ``admission.verify_enrolment``.
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
            CohortRefused: a party enrolled twice, or too few did.
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
        cohort = sorted(enrolled)
        if len(cohort) < self._least:
            raise CohortRefused(
                f"{len(cohort)} parties enrolled ({cohort}), below the {self._named_least()}"
            )
        self._round = Tally.begin(
            round_number,
            {index: enrolled[index] for index in cohort},
            model_hash=model_hash,
            parameters=self._parameters,
            roster=self._roster,
        )
        self._last_round = round_number
        return self._round.cohort_views()

    def add(self, upload: Upload) -> None:
        """Checks an upload and folds its masked vector into the sum; the vector is not kept.

        Raises:
            RoundReused: its sender has uploaded before, or the round is closed.
            CohortRefused, InputRefused, SignatureRefused: see ``admission.verify_upload``.
        """
        current = self._open_round()
        if current.closed:
            raise RoundReused(f"round {current.number} is closed to uploads")
        if upload.index in current.receipts:
            raise RoundReused(f"party {upload.index} has uploaded in round {current.number} before")
        masked, digest = verify_upload(
            upload,
            round_number=current.number,
            cohort=current.cohort,
            context=current.context,
            parameters=self._parameters,
            roster=self._roster,
        )
        current.fold(upload, masked, digest)

    def missing(self) -> tuple[int, ...]:
        """Returns the parties of the cohort whose upload has not arrived, ascending.

        Raises:
            ProtocolError: no round is open.
        """
        return self._open_round().dropped

    def bad_dealers(self) -> dict[int, tuple[int, ...]]:
        """Returns whom each party named as having dealt it an unusable share of a round key.

        Raises:
            ProtocolError: no round is open.
        """
        receipts = self._open_round().receipts
        return {index: receipt.bad_dealers for index, receipt in receipts.items()}

    def close(self) -> dict[int, SurvivorView]:
        """Closes the round to uploads.

        Returns:
            What to send to each survivor, by its index.

        Raises:
            CohortRefused: too few uploads arrived; the message names the missing parties. The round
                stays open to them.
            ProtocolError: no round is open.
        """
        current = self._open_round()
        survivors = current.survivors
        if len(survivors) < self._least:
            raise CohortRefused(
                f"round {current.number}: no upload of parties {list(current.dropped)} arrived; "
                f"the {len(survivors)} others are below the {self._named_least()}, so the round "
                f"cannot be finished"
            )
        current.closed = True
        return current.survivor_views()

    @property
    def needs_echo(self) -> bool:
        """Whether the closed round has lost a party, so that it reveals upon a certificate alone.

        Raises:
            ProtocolError: the round is not closed.
        """
        return bool(self._closed_round().dropped)

    def add_echo(self, echo: Echo) -> None:
        """Takes a survivor's word that it accepts the survivors; the same word twice is harmless.

        Raises:
            ProtocolError: the round is not closed.
            CohortRefused, SignatureRefused: see ``admission.verify_echo``.
        """
        current = self._closed_round()
        verify_echo(
            echo,
            round_number=current.number,
            survivors=current.survivors,
            context=current.context,
            roster=self._roster,
        )
        current.echoes[echo.index] = echo.signature

    def certificate(self) -> Certificate:
        """Returns what lets the survivors reveal after a loss.

        Raises:
            ProtocolError: the round is not closed.
            CertificateRefused: fewer survivors than the quorum have echoed.
        """
        current = self._closed_round()
        if len(current.echoes) < self._parameters.quorum:
            raise CertificateRefused(
                f"round {current.number}: {len(current.echoes)} of the survivors "
                f"{list(current.survivors)} have echoed ({sorted(current.echoes)}), below the "
                f"quorum {self._parameters.quorum}"
            )
        echoes = sorted(current.echoes.items())[: self._parameters.quorum]
        return Certificate(current.number, current.survivors, dict(echoes))

    def verify_reveal(self, reveal: Reveal) -> None:
        """Returns only if a reveal is well-formed and signed by its sender.

        Call it as reveals arrive, to leave out a party whose reveal is bad.

        Raises:
            ProtocolError: the round is not closed.
            CohortRefused, SignatureRefused: see ``admission.verify_reveal``.
        """
        current = self._closed_round()
        verify_reveal(
            reveal,
            round_number=current.number,
            survivors=current.survivors,
            dropped=current.dropped,
            context=current.context,
            roster=self._roster,
        )

    def finish(self, reveals: Iterable[Reveal]) -> SumResult:
        """Removes the masks that remain and reads the sum; the round is over.

        A quorum of reveals is enough. After a refusal the round can be finished with other reveals.

        Raises:
            ProtocolError: the round is not closed, or its sum is outside what can have been sent.
            CohortRefused: fewer reveals than the quorum, or two of one party.
            SignatureRefused: a reveal is not its sender's.
            ShareRefused: too few shares of a secret are right, or their dealer broke the rules.
        """
        current = self._closed_round()
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
        recovery = Recovery(self._parameters, round_number=current.number, reveals=answers)
        add, subtract = current.remaining_masks(recovery)
        self._round = None
        apply_masks(current.total, add=add, subtract=subtract, workers=self._workers)
        return read_sum(
            current.total,
            parameters=self._parameters,
            parties=current.survivors,
            faults=recovery.faults,
        )

    def _named_least(self) -> str:
        """How to name the fewest parties in a refusal."""
        quorum = self._parameters.quorum
        return f"quorum {quorum}" if self._least == quorum else f"least cohort {self._least}"

    def _open_round(self) -> Tally:
        """Returns the round."""
        if self._round is None:
            raise ProtocolError("no round is open: begin one with its enrolments")
        return self._round

    def _closed_round(self) -> Tally:
        """Returns the round if it waits for reveals."""
        current = self._open_round()
        if not current.closed:
            raise ProtocolError(f"round {current.number} is not closed: close it before reveals")
        return current
