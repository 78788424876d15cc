"""DP-SGD: what one record can change, where the noise comes from, what never depends on n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from torch import nn

from fl.architecture_spec import Architecture, Logistic, Mlp
from fl.architectures import build, initial_weights, load_weights, weights_of
from fl.contract import DataContract, Label, NumberColumn
from fl.errors import ModelError
from fl.spec import Hyperparameters, ModelSpec
from fl.table import Table
from fl.training import LocalTraining, train_locally
from fl.weights import flatten
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

COLUMNS = 3
CLIP = 0.5
ONE_STEP = PrivacyPlan(
    clip_norm=CLIP,
    noise_multiplier=2.0,
    sampling_rate=1.0,
    expected_batch_size=1,
    evaluation_noise_multiplier=4.0,
    steps_per_round=1,
    rounds=1,
    delta=1e-5,
)
SAMPLED = ONE_STEP.model_copy(update={"sampling_rate": 0.5})
# Neither noise nor its grid: what training hands to the secure sum, which adds both.
BARE = ONE_STEP.model_copy(update={"noise_shares": 2})
PLAIN = Hyperparameters(learning_rate=1.0, momentum=0.0)


@dataclass
class Silent:
    """A source without noise, which takes the records it is told to in each step."""

    samples: list[list[int]] | None = None
    asked: list[tuple[int, float]] = field(default_factory=list)

    def normal(self, shape: Sequence[int], std: float) -> NDArray[np.float64]:
        return np.zeros(shape)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        self.asked.append((n, rate))
        chosen = np.zeros(n, bool)
        chosen[slice(None) if self.samples is None else self.samples.pop(0)] = True
        return chosen


def module_of(architecture: Architecture, *, seed: int = 1) -> nn.Module:
    spec = ModelSpec(
        name="model",
        architecture=architecture,
        contract=DataContract(
            columns=tuple(
                NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(COLUMNS)
            ),
            label=Label(name="y"),
        ),
    )
    module = build(spec)
    load_weights(module, initial_weights(spec, seed=seed))
    return module


def table_of(features: NDArray[np.float32], labels: Sequence[float] | None = None) -> Table:
    rows = np.asarray(features, np.float32).reshape(-1, COLUMNS)
    alternating = np.arange(len(rows)) % 2 if labels is None else labels
    return Table(rows, np.asarray(alternating, np.float32))


def rows(n: int, *, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (n, COLUMNS)).astype(np.float32)


def change(
    table: Table,
    *,
    architecture: Architecture = Mlp(hidden=(4,), standardise=False),  # noqa: B008 (a frozen value)
    plan: PrivacyPlan = ONE_STEP,
    hyperparameters: Hyperparameters = PLAIN,
    source: Silent | SecureGenerator | None = None,
    proximal_mu: float = 0.0,
) -> tuple[NDArray[np.float32], LocalTraining]:
    """Trains once; returns how all weights changed, and the report."""
    module = module_of(architecture)
    before = flatten(weights_of(module))
    report = train_locally(
        module,
        table,
        plan=plan,
        hyperparameters=hyperparameters,
        generator=source or Silent(),
        proximal_mu=proximal_mu,
    )
    return flatten(weights_of(module)) - before, report


any_value = st.floats(width=32, allow_nan=True, allow_infinity=True)
any_rows = npst.arrays(np.float32, (4, COLUMNS), elements=st.floats(-1, 1, width=32))
any_row = npst.arrays(np.float32, (COLUMNS,), elements=any_value)


class TestSensitivity:
    @settings(max_examples=60, deadline=None)
    @given(features=any_rows, added=any_row, label=st.sampled_from([0.0, 1.0]))
    def test_one_more_record_changes_the_sum_by_at_most_the_clip_norm(
        self, features: NDArray[np.float32], added: NDArray[np.float32], label: float
    ) -> None:
        """With learning rate and divisor 1, a step moves the weights by the clipped sum."""
        without, _ = change(table_of(features), plan=BARE)
        with_it, _ = change(
            table_of(np.vstack([features, added]), [*(np.arange(4) % 2).tolist(), label]), plan=BARE
        )
        assert np.isfinite(with_it).all()
        assert np.linalg.norm(with_it.astype(np.float64) - without) <= CLIP * (1 + 1e-5)

    def test_a_large_gradient_is_clipped_over_all_parameters_together(self) -> None:
        row = np.full(COLUMNS, 1e6, np.float32)
        lengths = []
        for label in (0.0, 1.0):  # one of them is what the model says already
            moved, _ = change(
                table_of(row, [label]), architecture=Logistic(standardise=False), plan=BARE
            )
            lengths.append(np.linalg.norm(moved))
        assert max(lengths) == pytest.approx(CLIP, rel=1e-5)

    def test_a_small_gradient_is_left_as_it_is(self) -> None:
        plan = BARE.model_copy(update={"clip_norm": 1000.0})
        table = table_of(rows(6))
        moved, _ = change(table, plan=plan)
        module = module_of(Mlp(hidden=(4,), standardise=False))
        before = flatten(weights_of(module))
        logits = module(torch.from_numpy(table.features)).reshape(-1)
        loss = nn.BCEWithLogitsLoss(reduction="sum")(logits, torch.from_numpy(table.labels))
        loss.backward()
        with torch.no_grad():
            for parameter in module.parameters():
                assert parameter.grad is not None
                parameter -= parameter.grad
        np.testing.assert_allclose(moved, flatten(weights_of(module)) - before, atol=1e-5)


class TestNonFiniteRecords:
    @pytest.mark.parametrize("bad", [np.inf, -np.inf])
    def test_such_a_record_counts_for_nothing(self, bad: float) -> None:
        features = rows(5)
        spoilt = np.vstack([features, [0.1, bad, 0.2]])
        expected, _ = change(table_of(features))
        moved, report = change(table_of(spoilt))
        np.testing.assert_allclose(moved, expected, atol=1e-6)
        assert report.zeroed_records == 1

    def test_an_empty_cell_is_the_middle_of_its_column_and_spoils_nothing(self) -> None:
        empty, report = change(table_of(np.vstack([rows(5), [0.1, np.nan, 0.2]])))
        middle, _ = change(table_of(np.vstack([rows(5), [0.1, 0.0, 0.2]])))
        np.testing.assert_array_equal(empty, middle)
        assert report.zeroed_records == 0

    def test_it_is_left_out_of_all_parameters_not_of_some(self) -> None:
        """An infinite feature leaves the last bias a finite gradient, which must go too."""
        moved, report = change(
            table_of(np.array([0, np.inf, 0], np.float32)), architecture=Logistic(standardise=False)
        )
        assert not moved.any()
        assert report.zeroed_records == 1

    def test_records_that_are_all_spoilt(self) -> None:
        moved, report = change(table_of(np.full((3, COLUMNS), np.inf, np.float32)))
        assert not moved.any()
        assert report.zeroed_records == 3


class TestNoise:
    def test_its_deviation_is_sigma_times_c_by_the_divisor(self) -> None:
        plan = ONE_STEP.model_copy(update={"expected_batch_size": 8, "noise_multiplier": 1.5})
        architecture = Mlp(hidden=(100, 100), standardise=False)
        table = table_of(rows(8))
        quiet, _ = change(table, plan=plan, architecture=architecture)
        noisy, _ = change(
            table, plan=plan, architecture=architecture, source=SecureGenerator.seeded(1)
        )
        noise = (noisy - quiet) / (1.5 * CLIP / 8)
        assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
        assert noise.std() == pytest.approx(1, abs=5 / math.sqrt(2 * noise.size))

    def test_every_step_has_its_own(self) -> None:
        plan = ONE_STEP.model_copy(update={"steps_per_round": 16})
        moved, _ = change(
            table_of(rows(0)),
            plan=plan,
            architecture=Mlp(hidden=(100, 100), standardise=False),
            source=SecureGenerator.seeded(2),
        )
        assert moved.std() == pytest.approx(math.sqrt(16) * 2.0 * CLIP, rel=0.05)

    def test_it_comes_from_the_source_and_not_from_pytorch(self) -> None:
        before = torch.get_rng_state()
        first, _ = change(table_of(rows(5)), source=SecureGenerator.seeded(3))
        torch.manual_seed(99)
        again, _ = change(table_of(rows(5)), source=SecureGenerator.seeded(3))
        other, _ = change(table_of(rows(5)), source=SecureGenerator.seeded(4))
        torch.set_rng_state(before)
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


class TestPublicConstants:
    def test_the_sample_is_drawn_at_the_plans_rate_in_each_of_its_steps(self) -> None:
        source = Silent()
        plan = ONE_STEP.model_copy(update={"sampling_rate": 0.25, "steps_per_round": 6})
        _, report = change(table_of(rows(9)), plan=plan, source=source)
        assert source.asked == [(9, 0.25)] * 6
        assert report.steps == 6

    def test_the_divisor_is_the_plans_whatever_the_sample_holds(self) -> None:
        features = rows(10)
        plan = SAMPLED.model_copy(update={"expected_batch_size": 4})
        for sample in ([0], [0, 1, 2], list(range(10))):
            once, _ = change(table_of(features), plan=SAMPLED, source=Silent([sample]))
            quarter, _ = change(table_of(features), plan=plan, source=Silent([sample]))
            np.testing.assert_allclose(quarter, once / 4, atol=1e-6)

    def test_only_the_sample_counts(self) -> None:
        features = rows(10)
        chosen, _ = change(table_of(features, [1.0] * 10), plan=SAMPLED, source=Silent([[2, 5]]))
        alone, _ = change(table_of(features[[2, 5]], [1.0] * 2))
        np.testing.assert_allclose(chosen, alone, atol=1e-6)

    @pytest.mark.parametrize("n", [0, 5])
    def test_an_empty_sample_takes_its_noisy_step(self, n: int) -> None:
        plan = ONE_STEP.model_copy(update={"sampling_rate": 1e-12, "steps_per_round": 3})
        moved, report = change(table_of(rows(n)), plan=plan, source=SecureGenerator.seeded(1))
        assert (report.steps, report.empty_batches) == (3, 3)
        assert np.all(moved != 0)

    def test_an_empty_sample_without_noise_changes_nothing(self) -> None:
        moved, report = change(table_of(rows(4)), plan=SAMPLED, source=Silent([[]]))
        assert not moved.any()
        assert report.empty_batches == 1


class TestOptimizer:
    def test_momentum_carries_over_steps_but_not_over_rounds(self) -> None:
        heavy = Hyperparameters(learning_rate=1.0, momentum=0.5)
        plan = SAMPLED.model_copy(update={"steps_per_round": 2})
        table = table_of(rows(3))
        once, _ = change(table, plan=SAMPLED, hyperparameters=heavy, source=Silent([[0, 1, 2]]))
        # The second sample is empty: what moves the weights further is momentum alone.
        twice, _ = change(table, plan=plan, hyperparameters=heavy, source=Silent([[0, 1, 2], []]))
        np.testing.assert_allclose(twice, 1.5 * once, atol=1e-6)

        module = module_of(Mlp(hidden=(4,), standardise=False))
        train_locally(
            module, table, plan=SAMPLED, hyperparameters=heavy, generator=Silent([[0, 1, 2]])
        )
        after = flatten(weights_of(module))
        train_locally(module, table, plan=SAMPLED, hyperparameters=heavy, generator=Silent([[]]))
        assert np.array_equal(flatten(weights_of(module)), after)

    def test_the_proximal_term_pulls_back_to_the_rounds_start(self) -> None:
        plan = SAMPLED.model_copy(update={"steps_per_round": 2})
        table = table_of(rows(3))
        once, _ = change(table, plan=SAMPLED, source=Silent([[0, 1, 2]]), proximal_mu=0.25)
        free, _ = change(table, plan=SAMPLED, source=Silent([[0, 1, 2]]))
        np.testing.assert_array_equal(once, free)  # at the start there is nothing to pull
        back, _ = change(table, plan=plan, source=Silent([[0, 1, 2], []]), proximal_mu=0.25)
        np.testing.assert_allclose(back, 0.75 * once, atol=1e-6)

    def test_the_proximal_term_is_not_clipped_or_averaged(self) -> None:
        plan = SAMPLED.model_copy(update={"steps_per_round": 2, "expected_batch_size": 4})
        table = table_of(np.full(COLUMNS, 1e3, np.float32))
        once, _ = change(
            table, plan=plan.model_copy(update={"steps_per_round": 1}), source=Silent([[0]])
        )
        back, _ = change(table, plan=plan, source=Silent([[0], []]), proximal_mu=1.0)
        assert once.any()
        np.testing.assert_allclose(back, 0 * once, atol=1e-6)


class TestModule:
    def test_it_stays_a_plain_module(self) -> None:
        module = module_of(Mlp(hidden=(4,), standardise=False))
        names = list(module.state_dict())
        table = table_of(rows(5))
        for _ in range(2):
            train_locally(module, table, plan=ONE_STEP, hyperparameters=PLAIN, generator=Silent())
        assert list(module.state_dict()) == names
        for parameter in module.parameters():
            assert parameter.grad is None
            assert not hasattr(parameter, "grad_sample")
            assert not hasattr(parameter, "summed_grad")
        assert not any(layer._backward_hooks for layer in module.modules())

    def test_it_is_plain_again_after_a_failure(self) -> None:
        module = module_of(Mlp(hidden=(4,), standardise=False))

        class Broken(Silent):
            def normal(self, shape: Sequence[int], std: float) -> NDArray[np.float64]:
                raise OSError("no entropy")

        with pytest.raises(OSError, match="no entropy"):
            train_locally(
                module,
                table_of(rows(5)),
                plan=ONE_STEP,
                hyperparameters=PLAIN,
                generator=Broken(),
            )
        assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())
        train_locally(
            module, table_of(rows(5)), plan=ONE_STEP, hyperparameters=PLAIN, generator=Silent()
        )

    def test_a_module_that_mixes_records_is_refused_with_the_reason(self) -> None:
        module = nn.Sequential(nn.Linear(COLUMNS, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        with pytest.raises(ModelError, match="no per-record gradients: BatchNorm"):
            train_locally(
                module,
                table_of(rows(5)),
                plan=ONE_STEP,
                hyperparameters=PLAIN,
                generator=Silent(),
            )

    def test_a_module_with_buffers_is_refused_with_the_reason(self) -> None:
        class Scaled(nn.Linear):
            def __init__(self) -> None:
                super().__init__(COLUMNS, 1)
                self.register_buffer("scale", torch.ones(1))

        with pytest.raises(ModelError, match=r"no per-record gradients: .*buffers"):
            train_locally(
                Scaled(),
                table_of(rows(5)),
                plan=ONE_STEP,
                hyperparameters=PLAIN,
                generator=Silent(),
            )

    def test_other_features_than_the_models_are_refused(self) -> None:
        with pytest.raises(ModelError, match=rf"features of shape \(n, {COLUMNS}\)"):
            train_locally(
                nn.Linear(COLUMNS + 1, 1),
                table_of(rows(5)),
                plan=ONE_STEP,
                hyperparameters=PLAIN,
                generator=Silent(),
            )

    def test_more_than_one_logit_is_refused(self) -> None:
        with pytest.raises(ModelError, match="one for each record"):
            train_locally(
                nn.Linear(COLUMNS, 2),
                table_of(rows(5)),
                plan=ONE_STEP,
                hyperparameters=PLAIN,
                generator=Silent(),
            )


def test_it_learns() -> None:
    features = rows(400, seed=5)
    table = table_of(features, (features @ [1.0, -2.0, 0.5] > 0).astype(float).tolist())
    plan = PrivacyPlan(
        clip_norm=1.0,
        noise_multiplier=1.0,
        sampling_rate=0.2,
        expected_batch_size=80,
        evaluation_noise_multiplier=4.0,
        steps_per_round=40,
        rounds=1,
        delta=1e-5,
    )
    module = module_of(Logistic(standardise=False))
    train_locally(
        module, table, plan=plan, hyperparameters=PLAIN, generator=SecureGenerator.seeded(1)
    )
    with torch.no_grad():
        called = (module(torch.from_numpy(features)).reshape(-1) > 0).numpy()
    assert np.mean(called == table.labels) > 0.95
