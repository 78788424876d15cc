"""What a hospital adds its noise to, and that nothing leaves without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from fl.architectures import initial_weights
from fl.arrays import record_of
from fl.data import load_table
from fl.evaluation import BINS
from fl.integer_noise import update_noise
from fl.invitation import RoundInvitation
from fl.secure_round import PUBLIC_WEIGHT, identities, sum_parameters
from fl.subgroups import Subgroup
from privacy.errors import InputRefused
from privacy.noise import SecureGenerator
from privacy.secagg import Identity, MemoryJournal, Participant, SecureSum
from tasks.hospital.site import Site
from tasks.hospital.stages import LocalWork, work_locally

Invite = Callable[..., RoundInvitation]

SHARED: Final = {"noise_shares": 2, "sampling_rate": 1.0, "steps_per_round": 1}
DIMENSION: Final = 17 + 5  # of the model in conftest.py: 2-4-1, and its standardiser


def work(site: Site, invitation: RoundInvitation) -> LocalWork:
    return work_locally(
        load_table(site.settings.data_path, invitation.model.contract),
        invitation,
        record_of(initial_weights(invitation.model, seed=1)),
        split_key=site.split_key,
        generator=SecureGenerator.from_os(),
    )


def test_each_count_of_each_evaluation_carries_noise(site: Site, invite: Invite) -> None:
    invitation = invite(kind="evaluation")
    counts = [work(site, invitation).counts for _ in range(200)]
    assert np.abs(np.std(counts, axis=0) - 4.0).max() < 6 * 4.0 / np.sqrt(2 * 200)


def test_counts_of_groups_ride_along_in_a_closing_evaluation_alone_with_wider_noise(
    site: Site, invite: Invite
) -> None:
    subgroups = (Subgroup(name="sex", groups=("f", "m")),)
    spec = invite().model
    model = spec.model_copy(
        update={"contract": spec.contract.model_copy(update={"subgroups": subgroups})}
    )
    loaded = load_table(site.settings.data_path, spec.contract)
    table = replace(loaded, groups=np.zeros((len(loaded), 1), np.int8))

    def counts(**changes: Any) -> NDArray[np.int64]:
        invitation = invite(model=model, **changes)
        incoming = record_of(initial_weights(model, seed=1))
        generator = SecureGenerator.from_os()
        counted = work_locally(
            table, invitation, incoming, split_key=site.split_key, generator=generator
        ).counts
        assert counted.shape == (sum_parameters(invitation, parameters=DIMENSION).counters,)
        return counted

    assert counts().shape == (2 * BINS,)
    assert counts(evaluate=False).shape == (0,)
    closing = [counts(kind="evaluation") for _ in range(100)]
    assert closing[0].shape == (3 * 2 * BINS,)
    assert np.std(closing, axis=0).mean() == pytest.approx(4 * np.sqrt(2), rel=0.1)
    whole, women, men = np.mean(closing, axis=0).reshape(3, 2 * BINS)
    assert np.abs(whole - women).max() < 5  # deviation of each difference: 0.8
    assert np.abs(men).max() < 4


def test_only_under_shared_noise_does_the_update_itself_have_none(
    site: Site, invite: Invite
) -> None:
    local = invite()
    shared = invite(plan=local.plan.model_copy(update=SHARED))
    assert not np.array_equal(work(site, local).update, work(site, local).update)
    assert np.array_equal(work(site, shared).update, work(site, shared).update)


@pytest.fixture
def summed(
    site: Site, invite: Invite, peers: dict[str, Identity]
) -> Callable[..., NDArray[np.float64]]:
    """The opened sum of three hospitals that upload one update, in steps."""

    def run(invitation: RoundInvitation, update: NDArray[np.float32], noise: Any) -> Any:
        parameters = sum_parameters(invitation, parameters=DIMENSION)
        roster = identities(invitation)
        members = {**peers, "north": site.identity}
        hospitals = {
            invitation.index_of(name): Participant(
                invitation.index_of(name), parameters, identity, roster, journal=MemoryJournal()
            )
            for name, identity in members.items()
        }
        total = SecureSum(parameters, roster)
        views = total.begin(
            1, enrolments=[h.enrol(1) for h in hospitals.values()], model_hash=bytes(32)
        )
        for index, hospital in hospitals.items():
            upload = hospital.upload(
                1,
                views[index],
                model_hash=bytes(32),
                vector=update,
                weight=PUBLIC_WEIGHT,
                counts=np.full(parameters.counters, -index),
                noise=noise[index - 1],
            )
            total.add(upload)
        survivors = total.close()
        result = total.finish([h.reveal(1, survivors[i]) for i, h in hospitals.items()])
        assert set(result.counts) == {-6}
        return 3 * result.mean.astype(np.float64) / parameters.step

    return run


def test_the_sum_is_the_plain_sum_and_all_shares(
    site: Site, invite: Invite, summed: Callable[..., NDArray[np.float64]]
) -> None:
    local = invite()
    shared = invite(plan=local.plan.model_copy(update={**SHARED, "noise_multiplier": 30.0}))
    parameters = sum_parameters(shared, parameters=DIMENSION)
    update = work(site, shared).update
    noise = [update_noise(parameters, generator=SecureGenerator.seeded(i)) for i in range(3)]
    plain = summed(local, update, [None] * 3)
    noisy = summed(shared, update, noise)
    # Each of three vectors is rounded stochastically, in both sums.
    assert np.abs(noisy - plain - np.sum(noise, axis=0)).max() < 6.5


def test_an_upload_without_the_share_that_was_agreed_on_is_refused(
    invite: Invite, summed: Callable[..., NDArray[np.float64]]
) -> None:
    shared = invite(plan=invite().plan.model_copy(update=SHARED))
    with pytest.raises(InputRefused, match="noise: the parties agreed on a deviation of"):
        summed(shared, np.zeros(DIMENSION, np.float32), [None] * 3)


def test_local_noise_is_not_added_a_second_time(invite: Invite) -> None:
    parameters = sum_parameters(invite(), parameters=DIMENSION)
    assert update_noise(parameters, generator=SecureGenerator.seeded(1)) is None
