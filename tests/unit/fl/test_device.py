"""Where modules run, and tables that do not lie in memory as float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fl import device as devices
from fl import scoring
from fl.architecture_spec import Cnn
from fl.architectures import build, initial_weights, load_weights
from fl.batches import Batches
from fl.contract import DataContract, Images, Label
from fl.device import CPU, best_device, placed
from fl.scoring import scores_of_records
from fl.spec import Hyperparameters, ModelSpec
from fl.table import Table
from fl.training import train_locally
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

IMAGES = ModelSpec(
    name="images",
    architecture=Cnn(channels=(4,), groups=2),
    contract=DataContract(images=Images(channels=1, height=8, width=8), label=Label(name="y")),
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def images(n: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def on_disk(array: NDArray[Any], path: Path) -> NDArray[Any]:
    np.save(path, array)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def no_coins(n: int, rate: float) -> NDArray[np.bool_]:
    raise AssertionError("a coin was drawn")


def image_model() -> nn.Module:
    module = build(IMAGES)
    load_weights(module, initial_weights(IMAGES, seed=1))
    return module


def trained(
    features: Any, plan: PrivacyPlan, patients: Any = None, device: torch.device | None = None
) -> list[torch.Tensor]:
    module = image_model()
    labels = np.arange(len(features), dtype=np.float32) % 2
    train_locally(
        module,
        Table(features, labels, patients),
        plan=plan,
        hyperparameters=Hyperparameters(learning_rate=0.1, momentum=0.5),
        generator=SecureGenerator.seeded(3),
        part_bytes=1 << 16,
        device=device,
    )
    return [parameter.detach() for parameter in module.parameters()]


@pytest.fixture(params=[1.0, 0.5], ids=["all", "sampled"])
def plan(request: pytest.FixtureRequest, step_plan: PrivacyPlan) -> PrivacyPlan:
    return step_plan.model_copy(update={"sampling_rate": request.param, "steps_per_round": 3})


@pytest.mark.parametrize("there", [True, False])
def test_cuda_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert best_device().type == ("cuda" if there else "cpu")


class Moved(nn.Linear):
    """Notes where it is moved, and stays."""

    def __init__(self) -> None:
        super().__init__(2, 1)
        self.moves: list[str] = []

    def to(self, device: torch.device) -> Moved:  # type: ignore[override]
        self.moves.append(device.type)
        return self


def test_a_module_is_moved_back_whatever_happens() -> None:
    module, device = Moved(), torch.device("cuda")

    def fail() -> None:
        with placed(module, device) as on:
            assert on == device
            assert module.moves == ["cuda"]
            assert not torch.backends.cudnn.allow_tf32
            raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        fail()
    assert module.moves == ["cuda", "cpu"]


def test_a_device_that_is_given_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, plan: PrivacyPlan
) -> None:
    def asked() -> torch.device:
        raise AssertionError("this process would begin with CUDA")

    monkeypatch.setattr(devices, "best_device", asked)
    trained(images(), plan, device=CPU)
    scores_of_records(image_model(), images(), device=CPU)
    with pytest.raises(AssertionError, match="begin with CUDA"):
        trained(images(), plan)


@pytest.mark.parametrize("patients", [None, np.arange(24) // 3], ids=["records", "patients"])
@pytest.mark.parametrize("lies", ["memory", "disk"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_training_is_the_same_wherever_and_however_its_images_lie(
    plan: PrivacyPlan, tmp_path: Path, patients: Any, lies: str, dtype: Any
) -> None:
    expected = trained(images().astype(np.float32), plan, patients)
    features = images().astype(dtype)
    kept = features.copy()
    found = trained(
        on_disk(features, tmp_path / "x.npy") if lies == "disk" else features, plan, patients
    )
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert np.array_equal(features, kept)


def test_scores_are_the_same_in_parts_and_from_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = scores_of_records(image_model(), images())
    assert whole.shape == (24,)
    assert whole.dtype == np.float32
    monkeypatch.setattr(scoring, "_PART_VALUES", 5 * 64)
    parts = scores_of_records(image_model(), on_disk(images(), tmp_path / "x.npy"))
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert scores_of_records(image_model(), images(0)).shape == (0,)


class TestParts:
    def test_consecutive_rows_in_memory_are_no_copy(self, step_plan: PrivacyPlan) -> None:
        features = images()
        table = Table(features, np.zeros(24, np.float32))
        batches = Batches(table, plan=step_plan, coins=no_coins, most_records=10)
        parts = list(batches.next_step())
        assert [len(part.features) for part in parts] == [10, 10, 4]
        assert all(np.shares_memory(part.features.numpy(), features) for part in parts)

    def test_what_lies_on_disk_is_not_kept_in_memory(
        self, step_plan: PrivacyPlan, tmp_path: Path
    ) -> None:
        table = Table(on_disk(images(), tmp_path / "x.npy"), np.zeros(24, np.float32))
        batches = Batches(table, plan=step_plan, coins=no_coins, most_records=10)
        first, again = list(batches.next_step()), list(batches.next_step())
        for one, other in zip(first, again, strict=True):
            assert torch.equal(one.features, other.features)
            assert one.features.data_ptr() != other.features.data_ptr()


@needs_cuda
def test_a_training_on_cuda_is_that_on_the_cpu_up_to_rounding(
    plan: PrivacyPlan,
) -> None:  # pragma: no cover - where there is a device
    for patients in (None, np.arange(24) // 3):
        here = trained(images(), plan, patients, CPU)
        there = trained(images(), plan, patients, torch.device("cuda"))
        for a, b in zip(there, here, strict=True):
            assert a.device == CPU
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
