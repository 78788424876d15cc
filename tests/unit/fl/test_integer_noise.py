"""Shared noise: the sensitivity it is made for, its deviation in the sum, who must be honest."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fl.architecture_spec import Logistic
from fl.architectures import build, initial_weights, load_weights, weights_of
from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ModelError
from fl.integer_noise import (
    LEAST_COUNT_STD,
    check_weights,
    count_noise_std,
    noised_counts,
    update_noise,
    update_sensitivity,
)
from fl.invitation import RosterEntry, RoundInvitation
from fl.secure_round import UPDATE_STEP, sum_parameters
from fl.spec import Hyperparameters, ModelSpec, TrainingRequest
from fl.strategy_spec import FedProx
from fl.table import Table
from fl.training import train_locally
from fl.weights import flatten
from privacy.errors import ParametersRefused, PlanError
from privacy.mechanisms import evaluation_mechanism_of
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan, PrivacyRequest
from privacy.secagg.quantiser import Quantiser

COLUMNS = 6
PLAN = PrivacyPlan(
    clip_norm=0.5,
    noise_multiplier=20.0,
    noise_shares=4,
    evaluation_noise_multiplier=6.0,
    sampling_rate=1.0,
    expected_batch_size=75,
    steps_per_round=1,
    rounds=10,
    delta=1e-5,
)
SPEC = ModelSpec(
    name="model",
    architecture=Logistic(standardise=False),
    contract=DataContract(
        columns=tuple(NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(COLUMNS)),
        label=Label(name="y"),
    ),
    hyperparameters=Hyperparameters(learning_rate=4.0, momentum=0.5),
)


def invitation(*, hospitals: int = 5, **plan: Any) -> RoundInvitation:
    return RoundInvitation(
        round_id=uuid4(),
        training_id=uuid4(),
        number=1,
        kind=plan.pop("kind", "training"),
        model=SPEC,
        weights="0" * 64,
        plan=PLAN.model_copy(update=plan),
        roster=tuple(
            RosterEntry(
                hospital_id=f"h{i}", index=i, signing_key=f"{i:064x}", sealing_key=f"{i:064x}"
            )
            for i in range(1, hospitals + 1)
        ),
        deadline_s=60,
    )


def sensitivity(plan: PrivacyPlan = PLAN, *, dimension: int = COLUMNS + 1) -> float:
    return update_sensitivity(plan, learning_rate=4.0, dimension=dimension, step=UPDATE_STEP)


class TestSensitivity:
    def test_it_is_the_clipped_record_and_the_rounding(self) -> None:
        exact = 0.5 * 4.0 / 75 / UPDATE_STEP
        assert sensitivity(dimension=10_000) == pytest.approx(exact + 2 * 100)

    @settings(max_examples=40, deadline=None)
    @given(
        rows=st.integers(0, 30),
        label=st.sampled_from([0.0, 1.0]),
        seed=st.integers(0, 2**32 - 1),
        scale=st.sampled_from([0.1, 1.0, 39.0]),
    )
    def test_one_record_more_changes_the_quantised_update_by_no_more(
        self, rows: int, label: float, seed: int, scale: float
    ) -> None:
        """Through training and the quantiser, with the same bits for stochastic rounding."""
        generator = np.random.default_rng(seed)
        features = generator.uniform(-1, 1, (rows + 1, COLUMNS)).astype(np.float32)
        labels = np.append(generator.integers(0, 2, rows), label).astype(np.float32)
        weights = {
            name: (value * scale * 2).clip(-40, 40)
            for name, value in initial_weights(SPEC, seed=seed).items()
        }
        key = generator.bytes(32)
        parameters = sum_parameters(invitation(), parameters=COLUMNS + 1)

        def quantised(n: int) -> np.ndarray:
            module = build(SPEC)
            load_weights(module, weights)
            train_locally(
                module,
                Table(features[:n], labels[:n]),
                plan=PLAN,
                hyperparameters=SPEC.hyperparameters,
                generator=SecureGenerator.seeded(seed),
                proximal_mu=0.1,
            )
            update = flatten(weights_of(module)) - flatten(weights)
            elements = np.empty(parameters.length, parameters.dtype)
            Quantiser(
                update,
                weight=1,
                counts=np.zeros(parameters.counters, np.int64),
                parameters=parameters,
                rounding_key=key,
                noise=np.zeros(COLUMNS + 1, np.int64),
            ).fill(0, elements)
            return elements[: COLUMNS + 1].view("<i4").astype(np.int64)

        assert np.linalg.norm(quantised(rows + 1) - quantised(rows)) <= sensitivity()

    @pytest.mark.parametrize("change", [{"steps_per_round": 2}, {"sampling_rate": 0.5}])
    def test_a_round_of_more_than_one_step_on_all_records_is_refused(
        self, change: dict[str, Any]
    ) -> None:
        plan = PLAN.model_copy(update=change)
        with pytest.raises(PlanError, match="noise shared under the sum needs sampling_rate 1"):
            update_sensitivity(plan, learning_rate=1.0, dimension=7, step=UPDATE_STEP)

    def test_weights_too_large_for_the_rounding_reckoned_with_are_refused(self) -> None:
        check_weights({"w": np.array([40.0, -40.0], np.float32), "b": np.zeros(0, np.float32)})
        for bad in (40.5, np.nan):
            with pytest.raises(ModelError, match="weights up to 40 are allowed"):
                check_weights({"w": np.array([0.0, bad], np.float32)})


class TestUpdateNoise:
    def test_the_shares_of_the_least_honest_hospitals_add_up_to_the_plan_s_noise(self) -> None:
        dimension = 50_000
        parameters = sum_parameters(invitation(), parameters=dimension)
        shares = [
            update_noise(parameters, generator=SecureGenerator.seeded(seed)) for seed in range(4)
        ]
        total = np.sum([share for share in shares if share is not None], axis=0)
        promised = 20.0 * sensitivity(dimension=dimension)
        assert len(shares) == 4
        assert total.std() == pytest.approx(promised, rel=5 / math.sqrt(2 * dimension))

    def test_there_is_none_in_an_evaluation_or_under_local_noise(self) -> None:
        for other in (invitation(kind="evaluation"), invitation(noise_shares=1)):
            parameters = sum_parameters(other, parameters=7)
            assert parameters.noise_std == 0
            assert update_noise(parameters, generator=SecureGenerator.seeded(1)) is None

    def test_noise_that_would_wrap_the_modulus_is_refused(self) -> None:
        with pytest.raises(ParametersRefused, match=r"noise_std: .* beyond 2\^31"):
            sum_parameters(
                invitation(clip_norm=1000.0, noise_multiplier=10.0, expected_batch_size=1),
                parameters=7,
            )

    @pytest.mark.parametrize("lost", [0, 1])
    @pytest.mark.parametrize("hospitals", [3, 4, 5, 9, 20])
    def test_every_sum_that_can_be_opened_has_enough_honest_shares(
        self, hospitals: int, lost: int
    ) -> None:
        most = hospitals - hospitals // 3
        for shares in range(2, most + 1):
            parameters = sum_parameters(
                invitation(hospitals=hospitals, noise_shares=shares), parameters=7
            )
            assert parameters.quorum - parameters.colluding >= shares
            # With one fewer share than the most, one hospital can be lost.
            if shares < most and hospitals > 3:
                assert hospitals - lost >= parameters.quorum
        with pytest.raises(ParametersRefused, match=f"noise_shares {most + 1}: of {hospitals}"):
            sum_parameters(invitation(hospitals=hospitals, noise_shares=most + 1), parameters=7)


class TestRequest:
    @pytest.mark.parametrize(
        ("least_cohort", "most"), [(3, 2), (4, 3), (5, 4), (6, 4), (10, 7), (256, 171)]
    )
    def test_noise_is_shared_among_those_who_are_honest_in_the_least_cohort(
        self, least_cohort: int, most: int
    ) -> None:
        def request(shares: int) -> TrainingRequest:
            privacy = PrivacyRequest.model_construct(**PrivacyRequest().model_dump()).model_copy(
                update={"noise_shares": shares}
            )
            return TrainingRequest(
                model="model", strategy=FedProx(), privacy=privacy, least_cohort=least_cohort
            )

        assert request(most).privacy.noise_shares == most
        with pytest.raises(ValidationError, match=f"take at most {most}, or a larger least_cohort"):
            request(most + 1)


class TestCounts:
    @pytest.mark.parametrize(
        ("shares", "noise", "std"),
        [(1, 6.0, 6.0), (4, 6.0, 3.0), (1, 0.4, LEAST_COUNT_STD), (4, 1.8, LEAST_COUNT_STD)],
    )
    def test_the_deviation_is_the_plan_s_or_a_share_of_it(
        self, shares: int, noise: float, std: float
    ) -> None:
        plan = PLAN.model_copy(
            update={"noise_shares": shares, "evaluation_noise_multiplier": noise}
        )
        assert count_noise_std(plan) == pytest.approx(std)

    @given(shares=st.integers(1, 256), noise=st.floats(0.3, 1000))
    def test_the_shares_of_every_plan_add_up_to_its_noise_at_least(
        self, shares: int, noise: float
    ) -> None:
        plan = PLAN.model_copy(
            update={"noise_shares": shares, "evaluation_noise_multiplier": noise}
        )
        assert count_noise_std(plan) * math.sqrt(shares) >= noise * (1 - 1e-12)

    @given(shares=st.integers(1, 64), noise=st.floats(0.3, 100), subgroups=st.integers(0, 3))
    def test_with_subgroups_the_noise_multiplier_stays_what_the_ledger_charges(
        self, shares: int, noise: float, subgroups: int
    ) -> None:
        """Deviation of the sum over the counts' sensitivity; see test_counts.py for the latter."""
        plan = PLAN.model_copy(
            update={"noise_shares": shares, "evaluation_noise_multiplier": noise}
        )
        std = count_noise_std(plan, subgroups=subgroups)
        multiplier = std * math.sqrt(shares) / math.sqrt(1 + subgroups)
        charged = evaluation_mechanism_of(plan).mechanism
        assert multiplier >= charged.noise_multiplier * (1 - 1e-12)
        if std > LEAST_COUNT_STD * 1.001:
            assert multiplier == pytest.approx(charged.noise_multiplier)

    def test_subgroups_widen_the_noise_on_every_count(self) -> None:
        noise = [
            noised_counts(
                np.zeros(50_000, np.int64),
                plan=PLAN,
                generator=SecureGenerator.seeded(1),
                subgroups=subgroups,
            ).std()
            for subgroups in (0, 3)
        ]
        assert noise[1] / noise[0] == pytest.approx(2, rel=0.02)
        with pytest.raises(ModelError, match="subgroups -1"):
            count_noise_std(PLAN, subgroups=-1)

    def test_noise_goes_on_every_count(self) -> None:
        counts = np.full(100_000, 7)
        noised = noised_counts(counts, plan=PLAN, generator=SecureGenerator.seeded(1))
        assert noised.dtype == np.int64
        assert (noised - counts).std() == pytest.approx(3.0, rel=0.02)
        assert noised.min() < 0
