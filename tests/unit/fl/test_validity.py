"""A module that cannot be trained privately is refused: the layer, the reason, the remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from opacus.layers import DPLSTM
from torch import nn
from torch.nn import functional

from fl.errors import ModelError
from fl.validity import check_private, check_probed


class LastOf(nn.Module):
    """Of a recurrent layer's outputs the last; of attention, that of a record with itself."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        outputs, _ = self.layer(records)
        last: torch.Tensor = outputs[:, -1, :1]
        return last


class Positions(nn.Module):
    """Adds a fixed table to records."""

    def __init__(self, *, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("table", torch.linspace(0, 1, 5), persistent=persistent)
        self.scale = nn.Linear(5, 1)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.scale(records + self.get_buffer("table"))
        return logits


class Tied(nn.Module):
    """Two layers of which one uses the weights of the other without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 1)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        hidden = functional.relu(self.first(records))
        logits: torch.Tensor = self.last(functional.linear(hidden, self.first.weight))
        return logits


class Twice(nn.Module):
    """Calls one layer twice in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(5, 5), nn.Linear(5, 1)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(self.layer(self.layer(records).relu()))
        return logits


class Centred(nn.Module):
    """Subtracts the mean of the records of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 1)

    def forward(self, records: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(records - records.mean(0))
        return logits


def frozen() -> nn.Module:
    module = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    module[0].requires_grad_(False)
    return module


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 1)),
        r"layer '1' \(BatchNorm1d\) mixes the records of a batch: use GroupNorm",
    ),
    "lstm": (lambda: LastOf(nn.LSTM(5, 4)), r"layer 'layer' \(LSTM\).*opacus.layers.DPLSTM"),
    "gru": (lambda: LastOf(nn.GRU(5, 4)), r"\(GRU\).*not known: use opacus.layers.DPGRU"),
    "rnn": (lambda: LastOf(nn.RNN(5, 4)), r"\(RNN\).*not known: use opacus.layers.DPRNN"),
    "attention": (
        lambda: LastOf(nn.MultiheadAttention(4, 2)),
        r"\(MultiheadAttention\).*use opacus.layers.DPMultiheadAttention",
    ),
    "running statistics": (
        lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Linear(5, 1)),
        "keeps statistics of records.*set track_running_stats=False",
    ),
    "saved buffers": (
        lambda: Positions(persistent=True),
        "buffer 'table' would leave without noise: register it with persistent=False",
    ),
    "float64": (lambda: nn.Linear(5, 1).double(), "weight 'weight' is float64: make it float32"),
    "half": (lambda: nn.Linear(5, 1).half(), "weight 'weight' is float16: make it float32"),
    "meta": (lambda: nn.Linear(5, 1, device="meta"), "is on meta: build on the CPU"),
    "frozen": (frozen, r"weight '0.weight' is not trained \(requires_grad=False\): register it as"),
    "nothing": (lambda: nn.Flatten(0), "it has no weights to train: give it a layer with weights"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_layers_and_weights_that_do_not_go_are_named(
    make: Callable[[], nn.Module], said: str
) -> None:
    with pytest.raises(ModelError, match=f"the model cannot be trained privately: .*{said}"):
        check_private(make())


def test_a_lazy_layer_is_named() -> None:
    module = nn.Sequential(nn.LazyLinear(1))
    with pytest.raises(ModelError, match=r"weight '0.weight' has no shape yet: use the layer that"):
        check_private(module)


def test_all_problems_are_told_at_once() -> None:
    module = nn.Sequential(nn.BatchNorm1d(5), nn.BatchNorm1d(5), nn.Linear(5, 1).double())
    with pytest.raises(ModelError) as refused:
        check_private(module)
    assert [part in str(refused.value) for part in ("'0'", "'1'", "'2.bias'")] == [True] * 3


PROBED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mixed records": (Centred, "its logit of a record changes with the other records of a batch"),
    "tied weights": (Tied, "gradients of weight 'first.weight' do not add up; use each layer once"),
    "a layer used twice": (Twice, "no gradients of single records: a Linear layer is used twice"),
    "two logits": (lambda: nn.Linear(5, 2), r"returns \(4, 2\) of 4 records"),
    "another shape": (lambda: nn.Linear(6, 1), r"does not fit records of shape \(n, 5\)"),
}


@pytest.mark.parametrize(("make", "said"), PROBED.values(), ids=PROBED)
def test_what_only_shows_when_it_runs_is_named(make: Callable[[], nn.Module], said: str) -> None:
    torch.manual_seed(1)
    module = make()
    check_private(module)
    with pytest.raises(ModelError, match=said):
        check_probed(module, (5,))


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # of Opacus's own LSTM
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.Dropout(), nn.ReLU(), nn.Linear(4, 1)), (5,)),
        (lambda: Positions(persistent=False), (5,)),
        (lambda: LastOf(DPLSTM(5, 4, batch_first=True)), (3, 5)),
        (
            lambda: nn.Sequential(
                nn.Conv2d(3, 4, 3),
                nn.InstanceNorm2d(4, affine=True),
                nn.Flatten(),
                nn.Linear(64, 1),
            ),
            (3, 6, 6),
        ),
    ],
)
def test_what_goes_is_let_through_and_left_as_it_was(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(1)
    module, state = make(), torch.get_rng_state()
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    check_private(module)
    check_probed(module, shape)
    assert module.training
    assert torch.equal(torch.get_rng_state(), state) or isinstance(module, LastOf)
    assert all(torch.equal(weight, before[name]) for name, weight in module.state_dict().items())
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in module.parameters())
