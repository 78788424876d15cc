"""Gradient descent whose last iterates are averaged, as a Flower strategy.

A hospital's reply is one step from the weights it was sent. The strategy takes that step from its
own iterate; from a given round on it sends the mean of the iterates since then, so that what a
training stands at is always the mean (Rakhlin, Shamir and Sridharan 2012; Cutkosky 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray


class AveragedDescent(FedAvg):
    """FedAvg of one step a round, with suffix averaging of the iterates.

    Args:
        place: rounds behind it.
        average_after: rounds after which iterates are averaged, from 0.

    Attributes:
        iterate: where the descent stands; None before the first round.
        sent: the weights that the round's hospitals were sent; None between rounds.
    """

    def __init__(self, *, place: int, average_after: int) -> None:
        super().__init__(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
        self.average_after = average_after
        self.iterate: ArrayRecord | None = None
        self.place = place
        self.sent: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """See ``Strategy``."""
        self.sent = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See ``Strategy``."""
        stepped, metrics = super().aggregate_train(server_round, replies)
        if stepped is None:
            return None, metrics
        if self.sent is None:
            raise RuntimeError("a round is configured before its replies are aggregated")
        sent = {name: array.numpy() for name, array in self.sent.items()}
        before = self.iterate or self.sent
        iterate = {
            name: before[name].numpy() + (stepped[name].numpy() - sent[name]) for name in sent
        }
        self.iterate, self.sent = _record(iterate), None
        averaged = self.place - self.average_after
        if averaged < 0:
            return self.iterate, metrics
        mean = {
            name: sent[name] + (iterate[name] - sent[name]) / np.float32(averaged + 1)
            for name in sent
        }
        return _record(mean), metrics


def _record(arrays: dict[str, NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})
