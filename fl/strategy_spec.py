"""How the coordinator turns a mean update into new weights: strategies by name, as typed fields.

``fl.strategies`` builds them. Each needs nothing but the mean; one that compares or sorts single
updates is refused there, with the reason.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class _Strategy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Averaged(_Strategy):
    """Full-batch gradient descent whose last iterates are averaged; for one step a round.

    From a share of the way on, the weights of a round are the mean of the iterates since then
    (Rakhlin, Shamir and Sridharan 2012, "α-suffix averaging"; the gradient is taken at the mean, as
    by Cutkosky 2019). The mean evens out noise and the swing of large steps.

    Attributes:
        step: how far a round goes if every record's gradient has the clip norm and they agree, in
            units of the weights. None: as the recipe says for the epsilon.
        average_from: share of the rounds after which iterates are averaged.
    """

    kind: Literal["averaged"] = "averaged"
    step: Positive | None = None
    average_from: Annotated[float, Field(ge=0, lt=1)] = 0.5


class FedAvg(_Strategy):
    """The weighted mean of the hospitals' weights (McMahan et al. 2017)."""

    kind: Literal["fedavg"] = "fedavg"


class FedAvgM(_Strategy):
    """FedAvg with momentum at the coordinator (Hsu et al. 2019)."""

    kind: Literal["fedavgm"] = "fedavgm"
    server_learning_rate: Positive = 1.0
    server_momentum: Momentum = 0.9


class _Adaptive(_Strategy):
    eta: Positive = 0.01
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.99
    tau: Positive = 1e-3


class FedAdam(_Adaptive):
    """Adam at the coordinator (Reddi et al. 2021)."""

    kind: Literal["fedadam"] = "fedadam"


class FedYogi(_Adaptive):
    """Yogi at the coordinator (Reddi et al. 2021)."""

    kind: Literal["fedyogi"] = "fedyogi"


class FedAdagrad(_Strategy):
    """Adagrad at the coordinator (Reddi et al. 2021)."""

    kind: Literal["fedadagrad"] = "fedadagrad"
    eta: Positive = 0.1
    tau: Positive = 1e-3


class FedProx(_Strategy):
    """FedAvg with a proximal term at the hospital (Li et al. 2020)."""

    kind: Literal["fedprox"] = "fedprox"
    proximal_mu: Positive = 0.01


AnyStrategy = Averaged | FedAvg | FedAvgM | FedAdam | FedYogi | FedAdagrad | FedProx
StrategySpec = Annotated[AnyStrategy, Field(discriminator="kind")]
