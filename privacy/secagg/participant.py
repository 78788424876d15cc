"""The hospital's half of a secure sum.

    hospital = Participant(2, parameters, identity, roster, journal=journal)
    enrolment = hospital.enrol(7)
    upload = hospital.upload(7, cohort_view, model_hash=h, vector=v, weight=1, counts=c)
    echo = hospital.echo(7, survivor_view)                       # after a loss alone
    reveal = hospital.reveal(7, survivor_view, certificate)

The algorithm is double masking with pinned identities, a variant of Bonawitz et al., Practical
secure aggregation for privacy-preserving machine learning, CCS 2017:

1. *Enrol.* Make an X25519 key (RFC 7748) for this round. Share its private half (Shamir 1979), seal
   and commit to each share. Sign all with the pinned Ed25519 identity (RFC 8032).
2. Check the cohort that the coordinator shows: known parties, enough of them, this party's own key,
   each signature. Open the shares of the others' keys and hold each to its commitment. Hash all
   that must be agreed on into the round's *context*.
3. *Upload.* Derive a mask key with each other party from the X25519 secret and the context
   (HKDF, RFC 5869). Of each pair the lower index adds the mask, the higher subtracts it, so that
   they cancel in the sum. Draw a seed and add a self mask derived from it and the context. Share,
   seal and commit to the seed, sign all. Forget the round's private key.
4. Check the survivors that the coordinator shows: enough of the cohort, this party among them, each
   upload signed under this party's own context. From here on, accept no other set in this round.
5. *Echo*, if the cohort lost a party: sign the survivors. A quorum of echoes is a certificate;
   since ``2 * quorum > parties + colluding``, no two sets have one (Bonawitz et al. 2017, 6.2).
6. *Reveal.* Given the certificate if one is needed, open the shares of the survivors' seeds and
   answer once with them and with the shares of the dropped parties' keys. Forget all of them.

The coordinator never gets a quorum of both for one party: the vector of a party that was called
dropped stays behind its self mask, that of a survivor behind its pair masks. Each step is written
to the journal before it is answered. Secrets live in memory only: after a restart a round that is
in the journal is never answered again. Protocol and implementation have had no outside review.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import ArrayLike, NDArray

from privacy.errors import ParametersRefused
from privacy.secagg.context import (
    check_round_number,
    echo_statement,
    enrolment_statement,
    pair_mask_keys,
    reveal_statement,
    round_context,
    seed_commitment,
    self_mask_key,
    upload_digest,
    upload_statement,
    vector_digest,
)
from privacy.secagg.dealing import Dealer
from privacy.secagg.encoding import KEY_BYTES, Randomness
from privacy.secagg.journal import Journal
from privacy.secagg.keys import Identity, PublicIdentity, check_roster
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
from privacy.secagg.quantiser import Quantiser
from privacy.secagg.rounds import Enrolled, Rounds, Uploaded
from privacy.secagg.sealing import ROUND_KEY, SELF_MASK
from privacy.secagg.views import (
    Viewer,
    check_certificate,
    check_cohort,
    check_survivors,
    open_seed_shares,
)


class Participant:
    """One party of a session, for any number of its rounds.

    Args:
        index: this party's index in the roster.
        parameters: as this party built and approved them.
        identity: this party's private keys.
        roster: the pinned identity of every party, this one included.
        journal: the party's own record of the session, durable in a hospital.
        least_cohort: the fewest parties among which this party lets itself be summed.
        workers: processes that share the masking of a large vector.
        randomness: source of keys, seeds and nonces.

    Raises:
        ParametersRefused: index, identity, roster or least_cohort do not fit the parameters.
        ProtocolError: a sealing key cannot be used.
    """

    def __init__(
        self,
        index: int,
        parameters: SumParameters,
        identity: Identity,
        roster: Mapping[int, PublicIdentity],
        *,
        journal: Journal,
        least_cohort: int = LEAST_QUORUM,
        workers: int = 1,
        randomness: Randomness = os.urandom,
    ) -> None:
        self._roster = check_roster(roster, parameters)
        if self._roster.get(index) != identity.public:
            raise ParametersRefused(
                f"party {index}: the roster does not show this party's own identity "
                f"({identity.public.fingerprint()}) there"
            )
        parameters.check_least_cohort(least_cohort)
        self._index = index
        self._parameters = parameters
        self._identity = identity
        self._workers = workers
        self._randomness = randomness
        self._dealer = Dealer(index, parameters, identity, self._roster, randomness)
        self._viewer = Viewer(index, parameters, self._roster, self._dealer, least_cohort)
        self._rounds = Rounds(index, journal)

    def enrol(self, round_number: int) -> Enrolment:
        """Returns this party's key for a round and the sealed shares of it.

        Raises:
            RoundReused: this party has enrolled in the round before, in this process or another.
            ProtocolError: the number is no round number.
        """
        check_round_number(round_number)
        self._rounds.check_new(round_number)
        private_key = X25519PrivateKey.from_private_bytes(self._randomness(KEY_BYTES))
        public_key = private_key.public_key().public_bytes_raw()
        dealt = self._dealer.deal(
            private_key.private_bytes_raw(),
            purpose=ROUND_KEY,
            round_number=round_number,
            parties=self._parameters.roster,
        )
        statement = enrolment_statement(
            self._parameters.session, round_number, self._index, public_key, dealt.commitments
        )
        self._rounds.advance(round_number, "enrolled", statement, Enrolled(private_key))
        return Enrolment(
            index=self._index,
            round_number=round_number,
            public_key=public_key,
            signature=self._identity.signing.sign(statement),
            sealed_shares=dealt.sealed_shares,
            share_commitments=dealt.commitments,
        )

    def upload(
        self,
        round_number: int,
        view: CohortView,
        *,
        model_hash: bytes,
        vector: NDArray[np.float32],
        weight: int,
        counts: ArrayLike,
        noise: NDArray[np.int64] | None = None,
    ) -> Upload:
        """Returns this party's masked vector.

        After a refusal the round is still open and nothing has been said.

        Args:
            round_number: a round in which this party has enrolled.
            view: the cohort as the coordinator shows it.
            model_hash: SHA-256 of the weights this party started from, 32 bytes.
            vector: float32 (dimension,), finite; beyond the clip it is clipped.
            weight: 0 to max_weight.
            counts: integers (counters,), 2^32 values from the agreed ``least_count`` on.
            noise: int64 (dimension,), added to the quantised vector; only and always if the
                parameters have a ``noise_std``.

        Raises:
            RoundReused: this party has uploaded in the round before, in this process or another.
            CohortRefused, SignatureRefused: see ``views.check_cohort``.
            InputRefused: vector, weight, counts, noise or model_hash cannot be used.
            ProtocolError: this party has not enrolled, or a key cannot be used.
        """
        private_key = self._rounds.enrolled(round_number).private_key
        key_shares = check_cohort(
            view,
            round_number=round_number,
            own_key=private_key.public_key().public_bytes_raw(),
            viewer=self._viewer,
        )
        context = round_context(
            parameters=self._parameters,
            round_number=round_number,
            model_hash=model_hash,
            public_keys=view.public_keys,
            roster=self._roster,
        )
        quantiser = Quantiser(
            vector,
            weight=weight,
            counts=counts,
            parameters=self._parameters,
            rounding_key=self._randomness(KEY_BYTES),
            noise=noise,
        )
        seed = self._randomness(KEY_BYTES)
        add, subtract = pair_mask_keys(private_key, view.public_keys, context, index=self._index)
        add.append(self_mask_key(seed, context))
        masked = np.empty(self._parameters.length, self._parameters.dtype)
        apply_masks(masked, add=add, subtract=subtract, fill=quantiser.fill, workers=self._workers)

        dealt = self._dealer.deal(
            seed, purpose=SELF_MASK, round_number=round_number, parties=view.public_keys
        )
        bad_dealers = tuple(sorted(set(view.sealed_shares) - set(key_shares)))
        commitment = seed_commitment(seed, context, index=self._index)
        content = upload_digest(vector_digest(masked, bad_dealers), commitment, dealt.commitments)
        statement = upload_statement(context, self._index, content)
        kept = Uploaded(context, frozenset(view.public_keys), dealt.own_share, key_shares)
        self._rounds.advance(round_number, "uploaded", statement, kept)
        return Upload(
            index=self._index,
            round_number=round_number,
            masked=masked,
            commitment=commitment,
            signature=self._identity.signing.sign(statement),
            sealed_shares=dealt.sealed_shares,
            share_commitments=dealt.commitments,
            bad_dealers=bad_dealers,
        )

    def echo(self, round_number: int, view: SurvivorView) -> Echo:
        """Returns this party's word on the survivors; it accepts no other set in this round.

        Raises:
            RoundReused: this party has accepted another set, or has revealed.
            CohortRefused, SignatureRefused: see ``views.check_survivors``.
            ProtocolError: this party has not uploaded.
        """
        uploaded, survivors = self._accept(round_number, view)
        self._rounds.bind(round_number, uploaded, view)
        return Echo(
            index=self._index,
            round_number=round_number,
            survivors=tuple(sorted(survivors)),
            signature=self._identity.signing.sign(
                echo_statement(uploaded.context, self._index, survivors)
            ),
        )

    def reveal(
        self, round_number: int, view: SurvivorView, certificate: Certificate | None = None
    ) -> Reveal:
        """Returns this party's shares of the masks that remain in the sum; it answers once.

        The certificate is needed unless the survivors are the whole cohort.

        Raises:
            RoundReused: this party has accepted another set, or has revealed.
            CohortRefused, SignatureRefused: see ``views.check_survivors``.
            CertificateRefused: see ``views.check_certificate``.
            ProtocolError: this party has not uploaded.
        """
        uploaded, survivors = self._accept(round_number, view)
        if survivors != uploaded.cohort:
            check_certificate(
                certificate,
                round_number=round_number,
                survivors=survivors,
                context=uploaded.context,
                viewer=self._viewer,
            )
        shares = open_seed_shares(view, round_number=round_number, viewer=self._viewer)
        shares[self._index] = uploaded.own_share
        dropped = uploaded.cohort - survivors
        key_shares = {d: share for d, share in uploaded.key_shares.items() if d in dropped}
        statement = reveal_statement(
            uploaded.context, self._index, survivors, shares=shares, key_shares=key_shares
        )
        self._rounds.bind(round_number, uploaded, view)
        self._rounds.advance(round_number, "revealed", statement, None)
        return Reveal(
            index=self._index,
            round_number=round_number,
            shares=shares,
            key_shares=key_shares,
            signature=self._identity.signing.sign(statement),
        )

    def _accept(self, round_number: int, view: SurvivorView) -> tuple[Uploaded, frozenset[int]]:
        """Returns what is kept of the round, and the survivors that the view shows rightly."""
        uploaded = self._rounds.uploaded(round_number)
        if view != uploaded.view:  # what an echo has checked need not be checked again
            check_survivors(
                view,
                round_number=round_number,
                cohort=uploaded.cohort,
                context=uploaded.context,
                viewer=self._viewer,
            )
        return uploaded, frozenset(view.vector_digests)
