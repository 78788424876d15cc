"""A hospital's part of a round: check, enrol, evaluate and train, upload, reveal.

1. check the invitation, the policy and the data (`tasks.hospital.guard`, `.policy`), and reserve
   the training's plan in the ledger;
2. enrol: fresh signed keys and sealed shares, before training, so that the cohort forms meanwhile;
3. evaluate the incoming weights on the held-out rows, then train on the others;
4. upload the masked update once the cohort is known and the ledger has charged the round;
5. after a loss, echo the survivors and wait for a quorum of echoes;
6. reveal the shares that open the sum.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from numpy.typing import NDArray

from fl.arrays import change_between, parameters_in, record_of
from fl.client import LocalSite, client_app
from fl.evaluation.counts import COUNTS, WITH_SUBGROUPS, subgroups_of
from fl.integer_noise import check_weights, noised_counts, update_noise
from fl.invitation import RoundInvitation
from fl.messages import (
    decode_certificate,
    decode_cohort,
    decode_survivors,
    encode_echo,
    encode_enrolment,
    encode_reveal,
    encode_upload,
)
from fl.secure_round import PUBLIC_WEIGHT, identities, sum_parameters
from fl.split import split
from fl.table import Table
from fl.weights import decode_weights
from privacy.noise import SecureGenerator
from privacy.secagg.participant import Participant
from tasks.hospital.charging import RoundBudget
from tasks.hospital.exchange import ExchangeClient
from tasks.hospital.guard import check_data, check_invitation
from tasks.hospital.journal import SiteJournal
from tasks.hospital.own_figures import keep_own_figures
from tasks.hospital.policy import check_policy, check_still_allowed
from tasks.hospital.refusal import Refusal, contained
from tasks.hospital.site import Site


@dataclass(frozen=True, slots=True)
class LocalWork:
    """What leaves a hospital in a round, before masking.

    Attributes:
        update: float32, shape (parameters,); empty in an evaluation round.
        counts: int64, shape (counters,): score histograms of the held-out rows, in a closing
            evaluation those of subgroups too, with this hospital's noise; empty in a round that
            does not evaluate.
    """

    update: NDArray[np.float32]
    counts: NDArray[np.int64]


@dataclass(slots=True)
class StageClock:
    """Seconds spent in each stage, for the run's log."""

    clock: Callable[[], float] = time.perf_counter
    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0

    def __post_init__(self) -> None:
        self._last = self.clock()

    def mark(self, stage: str) -> None:
        """Books the time since the last mark on a stage."""
        now = self.clock()
        self.seconds[stage] = round(now - self._last, 3)
        self._last = now


def take_part(
    site: Site,
    invitation: RoundInvitation,
    exchange: ExchangeClient,
    *,
    generator: SecureGenerator,
) -> dict[str, float]:
    """Takes part in a round; returns the seconds of each stage.

    A refusal is posted on the exchange before it is raised, so that the round ends at once with its
    reason.

    Raises:
        Refusal: the hospital takes no part; its text may leave the hospital.
        ExchangeError: the coordinator closed the round, refused a message or fell silent.
    """
    try:
        with contained(site.store):
            return _take_part(site, invitation, exchange, generator)
    except Refusal as refusal:
        site.store.log("refused", {"round": str(invitation.round_id), "code": refusal.code})
        exchange.put(invitation.round_id, "refusal", refusal.encode())
        raise


def _take_part(
    site: Site,
    invitation: RoundInvitation,
    exchange: ExchangeClient,
    generator: SecureGenerator,
) -> dict[str, float]:
    clock = StageClock()
    now = datetime.now(UTC)
    check_invitation(site, invitation, now=now)
    policy = check_policy(site, invitation, now=now)
    table = check_data(site, invitation)
    budget = RoundBudget.of(site, invitation, table, policy)
    budget.reserve()
    weights = decode_weights(exchange.weights(invitation.weights))
    if invitation.plan.noise_shares > 1:
        check_weights(weights)
    incoming = record_of(weights)
    del weights
    parameters = sum_parameters(invitation, parameters=parameters_in(incoming))
    clock.mark("check")

    participant = Participant(
        invitation.index_of(site.settings.hospital_id),
        parameters,
        site.identity,
        identities(invitation),
        journal=SiteJournal(site.store.journal(invitation.training_id)),
        least_cohort=policy.least_cohort,
        workers=len(os.sched_getaffinity(0)),
    )
    round_id = invitation.round_id
    exchange.put(round_id, "enrolment", encode_enrolment(participant.enrol(invitation.number)))
    clock.mark("enrol")

    work = work_locally(
        table,
        invitation,
        incoming,
        split_key=site.split_key,
        generator=generator,
        scored=partial(keep_own_figures, site, invitation),
    )
    clock.mark("train")

    cohort = exchange.wait_for(round_id, "cohort", timeout_s=invitation.deadline_s)
    clock.mark("wait_for_cohort")
    upload = participant.upload(
        invitation.number,
        decode_cohort(cohort),
        model_hash=bytes.fromhex(invitation.weights),
        vector=work.update,
        weight=PUBLIC_WEIGHT,
        counts=work.counts,
        noise=update_noise(parameters, generator=generator),
    )
    # Each is as large as the model: what is done with goes before the next one comes.
    del work
    body = encode_upload(upload)
    del upload
    check_still_allowed(site, invitation)  # the last moment: from here on it cannot be taken back
    budget.charge()
    exchange.put(round_id, "upload", body)
    del body
    clock.mark("upload")

    survivors = exchange.wait_for(round_id, "survivors", timeout_s=invitation.deadline_s)
    clock.mark("wait_for_survivors")
    view = decode_survivors(survivors)
    certificate = None
    if view.dropped:
        # A hospital was lost: reveal only once a quorum has accepted the same survivors.
        exchange.put(round_id, "echo", encode_echo(participant.echo(invitation.number, view)))
        certificate = decode_certificate(
            exchange.wait_for(round_id, "certificate", timeout_s=invitation.deadline_s)
        )
        clock.mark("echo")
    reveal = participant.reveal(invitation.number, view, certificate)
    exchange.put(round_id, "reveal", encode_reveal(reveal))
    budget.close()
    clock.mark("reveal")
    site.store.log("answered", {"round": str(round_id), "number": invitation.number})
    return clock.seconds


def work_locally(
    table: Table,
    invitation: RoundInvitation,
    incoming: ArrayRecord,
    *,
    split_key: bytes,
    generator: SecureGenerator,
    scored: Callable[[NDArray[np.float64], Table], None] | None = None,
) -> LocalWork:
    """Evaluates the incoming weights and, in a training round, trains, through the ClientApp.

    The counts carry their noise. So does the update, unless the plan's noise is shared: then the
    caller adds this hospital's share to what is quantised. A training round empties ``incoming``.
    A closing evaluation shows ``scored`` the held-out rows and their scores, which stay here.
    """
    app = client_app(
        LocalSite(
            spec=invitation.model,
            plan=invitation.plan,
            split=split(table, key=split_key),
            generator=generator,
            scored=scored if invitation.kind == "evaluation" else None,
        )
    )
    config = ConfigRecord({"server-round": invitation.number})
    subgroups = subgroups_of(invitation.model.contract, invitation.kind)
    config[WITH_SUBGROUPS] = int(bool(subgroups))
    config.update({str(name): value for name, value in invitation.train_config.items()})

    def ask(message_type: str) -> RecordDict:
        content = RecordDict({"arrays": incoming, "config": config})
        message = Message(content, dst_node_id=1, message_type=message_type)
        context = Context(run_id=0, node_id=1, node_config={}, state=RecordDict(), run_config={})
        reply: RecordDict = app(message, context).content
        return reply

    counts = np.zeros(0, np.int64)
    if invitation.evaluate:
        metrics = ask(MessageType.EVALUATE).metric_records["metrics"]
        counts = noised_counts(
            np.asarray(metrics[COUNTS], np.int64),
            plan=invitation.plan,
            generator=generator,
            subgroups=len(subgroups),
        )
    if invitation.kind == "evaluation":
        return LocalWork(np.zeros(0, np.float32), counts)
    trained = ask(MessageType.TRAIN).array_records["arrays"]
    return LocalWork(change_between(trained, incoming), counts)
