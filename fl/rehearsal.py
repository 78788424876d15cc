"""A whole training in one process, on rows that are public or synthetic.

    weights = rehearse(course, [split_1, split_2, split_3], seed=7)

All is the platform's own: stages, ClientApps, clipping, noise, quantiser, the sum and what the
coordinator makes of it. Left out are the exchange and the masks, which change no figure. The noise
is drawn by seeded generators, which anybody can repeat: it protects nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import UUID

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from numpy.typing import NDArray

from fl.architectures import initial_weights
from fl.arrays import change_between, record_of
from fl.client import LocalSite, client_app
from fl.course import Course
from fl.integer_noise import update_noise
from fl.invitation import RosterEntry, RoundInvitation
from fl.rounds import RoundPlan, RoundState
from fl.secure_round import PUBLIC_WEIGHT, sum_parameters
from fl.table import Split
from fl.weights import Weights, layout
from privacy.noise import SecureGenerator
from privacy.secagg.parameters import SumParameters
from privacy.secagg.quantiser import Quantiser, read_sum

_NOBODY: Final = "0" * 64


def rehearse(course: Course, hospitals: Sequence[Split], *, seed: int) -> Weights:
    """Returns the weights that a training of all its rounds leaves; see `rehearsed`."""
    for state in rehearsed(course, hospitals, seed=seed):
        weights = state.weights
    return weights


def rehearsed(course: Course, hospitals: Sequence[Split], *, seed: int) -> Iterator[RoundState]:
    """Yields where each round of a training leaves it, the last one's weights being the training's.

    Args:
        course: model, plan and strategy.
        hospitals: each one's rows; three at least.
        seed: of initial weights, samples and noise.

    Raises:
        ModelError: the rows do not fit the model.
        RoundError: a round cannot be aggregated.
        ParametersRefused: the plan shares its noise among more than so many hospitals allow.
    """
    generators = [SecureGenerator.seeded(seed * len(hospitals) + h) for h in range(len(hospitals))]
    sites = [
        LocalSite(spec=course.spec, plan=course.plan, split=split, generator=generator)
        for split, generator in zip(hospitals, generators, strict=True)
    ]
    state = RoundState(1, initial_weights(course.spec, seed=seed))
    for _ in range(course.plan.rounds):
        asked = course.configure(state, hospitals=len(sites))
        parameters = _parameters(course, asked, hospitals=len(sites))
        total = np.zeros(parameters.length, parameters.dtype)
        for site in sites:
            total += _upload(site, asked, parameters)
        mean = read_sum(total, parameters=parameters, parties=parameters.roster).mean
        state = course.aggregate(state, asked, mean_update=mean, hospitals=len(sites)).state
        yield state


def _upload(
    site: LocalSite, asked: RoundPlan, parameters: SumParameters
) -> NDArray[np.unsignedinteger]:
    """What a hospital would mask."""
    quantiser = Quantiser(
        _update(site, asked),
        weight=PUBLIC_WEIGHT,
        counts=np.zeros(parameters.counters, np.int64),
        parameters=parameters,
        rounding_key=site.generator.bytes(32),
        noise=update_noise(parameters, generator=site.generator),
    )
    elements = np.empty(parameters.length, parameters.dtype)
    quantiser.fill(0, elements)
    return elements


def _update(site: LocalSite, asked: RoundPlan) -> NDArray[np.float32]:
    incoming = record_of(asked.weights)
    config = ConfigRecord({"server-round": asked.number})
    config.update(asked.train_config)
    message = Message(
        RecordDict({"arrays": incoming, "config": config}),
        dst_node_id=1,
        message_type=MessageType.TRAIN,
    )
    context = Context(run_id=0, node_id=1, node_config={}, state=RecordDict(), run_config={})
    reply = client_app(site, simulated=True)(message, context)
    return change_between(reply.content.array_records["arrays"], incoming)


def _parameters(course: Course, asked: RoundPlan, *, hospitals: int) -> SumParameters:
    """The sum's parameters, as both sides derive them from a round's invitation."""
    invitation = RoundInvitation(
        round_id=UUID(int=1),
        training_id=UUID(int=2),
        number=asked.number,
        kind="training",
        model=course.spec,
        weights=_NOBODY,
        plan=course.plan,
        train_config=asked.train_config,
        evaluate=False,
        roster=tuple(
            RosterEntry(hospital_id=f"h{i}", index=i, signing_key=_NOBODY, sealing_key=_NOBODY)
            for i in range(1, hospitals + 1)
        ),
        deadline_s=60,
    )
    return sum_parameters(invitation, parameters=layout(asked.weights).size)
