"""Models of images: as many weights as promised, any size, trained privately like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from torch import nn

from fl.architecture_spec import Architecture, Cnn, HogLogistic, ResNet18
from fl.architectures import (
    build,
    initial_weights,
    layout_of,
    load_weights,
    split_fixed,
    weights_of,
)
from fl.architectures.convolutional import ResidualBlock
from fl.contract import DataContract, Images, Label
from fl.per_sample import Method, method_for
from fl.spec import Hyperparameters, ModelSpec
from fl.table import Table
from fl.training import train_locally
from fl.weights import flatten, layout
from privacy.plan import PrivacyPlan

CLIP = 0.5
SMALL = (
    HogLogistic(grid=2, orientations=3),
    Cnn(channels=(4, 6), groups=2),
    ResNet18(width=8, groups=4),
)
small = pytest.mark.parametrize("architecture", SMALL, ids=lambda spec: spec.kind)
# Neither noise nor its grid: what training hands to the secure sum, which adds both.
BARE = PrivacyPlan(
    clip_norm=CLIP,
    noise_multiplier=2.0,
    noise_shares=2,
    sampling_rate=1.0,
    expected_batch_size=1,
    evaluation_noise_multiplier=4.0,
    steps_per_round=1,
    rounds=1,
    delta=1e-5,
)


class Silent:
    """Draws no noise; nothing is sampled."""

    def normal(self, shape: Sequence[int], std: float) -> NDArray[np.float64]:
        return np.zeros(shape)

    def bernoulli(self, n: int, rate: float) -> NDArray[np.bool_]:
        raise AssertionError("a coin was drawn")


def spec_of(architecture: Architecture, *, size: tuple[int, int, int] = (1, 16, 16)) -> ModelSpec:
    channels, height, width = size
    images = Images(height=height, width=width, channels=channels)  # type: ignore[arg-type]
    return ModelSpec(
        name="model",
        architecture=architecture,
        contract=DataContract(images=images, label=Label(name="y")),
    )


def started(spec: ModelSpec) -> nn.Module:
    module = build(spec)
    load_weights(module, initial_weights(spec, seed=1))
    return module


def images(n: int, *, size: tuple[int, int, int] = (1, 16, 16), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, *size), dtype=np.uint8)


def table_of(pixels: NDArray[Any], labels: Sequence[float] | None = None) -> Table:
    known = np.arange(len(pixels)) % 2 if labels is None else labels
    return Table(pixels, np.asarray(known, np.float32))


def moved(spec: ModelSpec, table: Table, *, plan: PrivacyPlan = BARE) -> NDArray[np.float32]:
    """By how much a step moves the weights: the clipped sum."""
    module = started(spec)
    before = flatten(weights_of(module))
    train_locally(
        module,
        table,
        plan=plan,
        hyperparameters=Hyperparameters(learning_rate=1.0, momentum=0.0),
        generator=Silent(),
    )
    return flatten(weights_of(module)) - before


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 33, 20), (1, 8, 8), (3, 64, 80)])
@pytest.mark.parametrize("architecture", [*SMALL, Cnn(), ResNet18(width=16)], ids=repr)
def test_it_has_the_weights_that_its_specification_counts(
    architecture: Architecture, size: tuple[int, int, int]
) -> None:
    spec = spec_of(architecture, size=size)
    module = build(spec)
    assert layout_of(module).size == architecture.parameters(size)
    assert layout_of(module) == layout(initial_weights(spec, seed=0))
    assert module(torch.from_numpy(images(2, size=size))).shape == (2, 1)


@small
def test_bytes_and_floats_of_one_image_are_one_record(architecture: Architecture) -> None:
    module = started(spec_of(architecture)).eval()
    as_bytes = torch.from_numpy(images(3))
    as_floats = as_bytes.float()
    with torch.no_grad():
        assert torch.equal(module(as_bytes), module(as_floats))
    assert torch.equal(as_floats, as_bytes.float())  # the table's own pixels stay


@small
def test_a_record_is_told_without_the_others(architecture: Architecture) -> None:
    module, pixels = started(spec_of(architecture)), torch.from_numpy(images(4))
    with torch.no_grad():
        torch.testing.assert_close(module(pixels)[:1], module(pixels[:1]), rtol=1e-4, atol=1e-5)


@small
def test_pytorchs_random_state_is_left_alone(architecture: Architecture) -> None:
    before = torch.get_rng_state()
    initial_weights(spec_of(architecture), seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", SMALL[1:], ids=lambda spec: spec.kind)
def test_initial_weights_follow_from_the_seed_and_tell_images_apart(
    architecture: Architecture,
) -> None:
    spec = spec_of(architecture)
    first, same, other = (flatten(initial_weights(spec, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
    with torch.no_grad():
        logits = started(spec)(torch.from_numpy(images(8)))
    assert 1e-4 < float(logits.std()) < 10


@pytest.mark.parametrize("side", [32, 64])
def test_a_resnet_halves_large_images_twice_more(side: int) -> None:
    module = started(spec_of(ResNet18(width=8, groups=4), size=(1, side, side)))
    sides = []
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            block.register_forward_hook(lambda _, __, planes: sides.append(planes.shape[-1]))
    module(torch.zeros(1, 1, side, side))
    assert sides == ([32, 32, 16, 16, 8, 8, 4, 4] if side == 32 else [16, 16, 8, 8, 4, 4, 2, 2])


class TestPrivateStep:
    @small
    def test_one_image_more_changes_the_sum_by_at_most_the_clip_norm(
        self, architecture: Architecture
    ) -> None:
        spec, pixels = spec_of(architecture), images(5)
        added = np.full((1, 1, 16, 16), 255, np.uint8)
        added[..., ::2] = 0
        for label in (0.0, 1.0):
            without = moved(spec, table_of(pixels))
            more = table_of(np.vstack([pixels, added]), [0, 1, 0, 1, 0, label])
            change = np.linalg.norm(moved(spec, more).astype(np.float64) - without)
            assert 0 < change <= CLIP * (1 + 1e-5)

    @small
    @pytest.mark.parametrize("clip_norm", [0.05, 1000.0])
    def test_the_sum_is_that_of_opacus(self, architecture: Architecture, clip_norm: float) -> None:
        spec, table = spec_of(architecture), table_of(images(4))
        module = started(spec)
        assert method_for(module) is Method.FACTORS
        fixed, trained_part = split_fixed(module)
        wrapped = GradSampleModule(trained_part, loss_reduction="sum")
        pixels = torch.from_numpy(table.features).float()
        pixels = (pixels if fixed is None else fixed(pixels)).requires_grad_()
        loss = nn.BCEWithLogitsLoss(reduction="sum")
        loss(wrapped(pixels).reshape(-1), torch.from_numpy(table.labels)).backward()
        trained = {n: p.grad_sample for n, p in module.named_parameters() if p.requires_grad}
        rows = torch.cat([gradient.flatten(1) for gradient in trained.values()], 1)
        scale = (clip_norm / rows.norm(dim=1)).clamp(max=1)
        expected = {
            name: torch.einsum("n,n...->...", scale, trained[name]).numpy()
            if name in trained
            else np.zeros(parameter.shape, np.float32)
            for name, parameter in module.named_parameters()
        }
        change = moved(spec, table, plan=BARE.model_copy(update={"clip_norm": clip_norm}))
        np.testing.assert_allclose(-change, flatten(expected), rtol=1e-3, atol=2e-5)

    @small
    def test_two_steps_make_the_loss_smaller(self, architecture: Architecture) -> None:
        pixels = images(8)
        pixels[::2, :, :8] //= 8  # dark above
        spec, table = spec_of(architecture), table_of(pixels)
        module, labels = started(spec), torch.from_numpy(table.labels)

        def loss() -> float:
            with torch.no_grad():
                logits = module(torch.from_numpy(pixels)).reshape(-1)
            return float(nn.functional.binary_cross_entropy_with_logits(logits, labels))

        before = loss()
        train_locally(
            module,
            table,
            plan=BARE.model_copy(update={"steps_per_round": 2}),
            hyperparameters=Hyperparameters(learning_rate=0.05, momentum=0.0),
            generator=Silent(),
        )
        assert loss() < before - 1e-4


class TestFixedFeatures:
    def test_both_parts_together_are_the_whole_and_weights_keep_their_names(self) -> None:
        module, pixels = started(spec_of(SMALL[0])), torch.from_numpy(images(3))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.25)
        fixed, trained = split_fixed(module)
        assert fixed is not None
        assert not list(fixed.parameters())
        with torch.no_grad():
            assert torch.equal(trained(fixed(pixels)), module(pixels))
        assert layout_of(trained) == layout_of(module)
        assert all(a is b for a, b in zip(trained.parameters(), module.parameters(), strict=True))

    @pytest.mark.parametrize("architecture", SMALL[1:], ids=lambda spec: spec.kind)
    def test_there_are_none_where_the_network_reads_pixels(
        self, architecture: Architecture
    ) -> None:
        module = build(spec_of(architecture))
        assert split_fixed(module) == (None, module)
