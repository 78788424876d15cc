"""Flower's strategies, unmodified: built from a spec, saved and restored between rounds.

    strategy = build_strategy(spec.FedAdam(eta=0.01))
    restore_state(strategy, state)  # what save_state returned after the round before

The coordinator sees the cohort's mean and nothing else, so a strategy is shown one node whose
reply is that mean. Strategies that compare, sort or weigh single updates cannot run on it and are
refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, assert_never, get_args

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp import strategy as flower
from numpy.typing import NDArray

from fl import strategy_spec as specs
from fl.averaged import AveragedDescent
from fl.errors import StrategyError

_COMPARES = "it compares the hospitals' updates with each other"
_SORTS = "it sorts the hospitals' updates, weight by weight"
_CLIPS = "it clips each hospital's update at the coordinator; here every record is clipped at home"
_TREES = "it collects trees, which do not add up"

NEEDS_INDIVIDUAL: Final[Mapping[str, str]] = MappingProxyType(
    {
        "krum": _COMPARES,
        "multikrum": _COMPARES,
        "bulyan": _COMPARES,
        "fedmedian": _SORTS,
        "median": _SORTS,
        "fedtrimmedavg": _SORTS,
        "trimmedmean": _SORTS,
        "qfedavg": "it weighs each hospital's update by that hospital's own loss",
        "differentialprivacyserversidefixedclipping": _CLIPS,
        "differentialprivacyserversideadaptiveclipping": _CLIPS,
        "fedxgbbagging": _TREES,
        "fedxgbcyclic": _TREES,
    }
)
"""Strategies that need individual updates, by name in small letters, and what for."""

_KINDS: Final = [kind.model_fields["kind"].default for kind in get_args(specs.AnyStrategy)]
_ADAPTIVE: Final = (flower.FedAdam, flower.FedYogi, flower.FedAdagrad)

_ONE_NODE: Final[Mapping[str, Any]] = MappingProxyType(
    {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
)

_Arrays = dict[str, NDArray[Any]]


def refuse_individual(name: str) -> None:
    """Refuses a strategy that needs individual updates, with the reason.

    Args:
        name: as a person writes it; case, spaces, hyphens and underscores do not matter.

    Raises:
        StrategyError: the strategy would need what the secure sum hides.
    """
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    if reason := NEEDS_INDIVIDUAL.get(plain):
        raise StrategyError(
            f"strategy {name!r} cannot run: {reason}, and the secure sum shows only their mean; "
            f"use {', '.join(_KINDS[:-1])} or {_KINDS[-1]}"
        )


def build_strategy(spec: specs.StrategySpec, *, place: int = 0, rounds: int = 1) -> flower.Strategy:
    """Returns the Flower strategy that a spec names, content with one node.

    Args:
        spec: the strategy's kind and fields.
        place: rounds that have gone through it.
        rounds: rounds that will in all; both matter to one that averages the last iterates.
    """
    match spec:
        case specs.Averaged():
            return AveragedDescent(place=place, average_after=int(spec.average_from * rounds))
        case specs.FedAvg():
            return flower.FedAvg(**_ONE_NODE)
        case specs.FedAvgM():
            return flower.FedAvgM(
                **_ONE_NODE,
                server_learning_rate=spec.server_learning_rate,
                server_momentum=spec.server_momentum,
            )
        case specs.FedAdam() | specs.FedYogi():
            adaptive = flower.FedAdam if isinstance(spec, specs.FedAdam) else flower.FedYogi
            return adaptive(
                **_ONE_NODE,
                eta=spec.eta,
                beta_1=spec.beta_1,
                beta_2=spec.beta_2,
                tau=spec.tau,
            )
        case specs.FedAdagrad():
            return flower.FedAdagrad(
                **_ONE_NODE,
                eta=spec.eta,
                tau=spec.tau,
            )
        case specs.FedProx():
            return flower.FedProx(
                **_ONE_NODE,
                proximal_mu=spec.proximal_mu,
            )
    assert_never(spec)


def save_state(strategy: flower.Strategy) -> RecordDict:
    """Returns all that a strategy remembers from one round to the next.

    The records are arrays by weight name: ``current`` and ``momentum`` for FedAvgM, ``current``,
    ``m`` and ``v`` for FedAdam, FedYogi and FedAdagrad, ``iterate`` and ``sent`` for averaged
    descent, none for FedAvg and FedProx. What is not set is left out.

    Raises:
        StrategyError: a strategy that `build_strategy` does not build.
    """
    state: dict[str, _Arrays | None] = {}
    if isinstance(strategy, flower.FedAvgM):
        current = strategy.current_arrays
        names = [] if current is None else list(current)
        state["current"] = None if current is None else _numpy(current)
        if strategy.momentum_vector is not None:
            state["momentum"] = dict(zip(names, strategy.momentum_vector, strict=True))
    elif isinstance(strategy, AveragedDescent):
        state = {
            name: None if record is None else _numpy(record)
            for name, record in (("iterate", strategy.iterate), ("sent", strategy.sent))
        }
    elif isinstance(strategy, _ADAPTIVE):
        state = {"current": strategy.current_arrays, "m": strategy.m_t, "v": strategy.v_t}
    else:
        _require_stateless(strategy)
    return RecordDict(
        {name: _record(arrays) for name, arrays in state.items() if arrays is not None}
    )


def restore_state(strategy: flower.Strategy, state: RecordDict) -> None:
    """Puts a strategy where `save_state` found it; an empty state is that of a first round.

    Raises:
        StrategyError: a strategy that `build_strategy` does not build, or the state of another
            one. The strategy is unchanged then.
    """
    if isinstance(strategy, flower.FedAvgM):
        arrays = _arrays_of(state, known={"current", "momentum"}, strategy=strategy)
        current, momentum = arrays.get("current"), arrays.get("momentum")
        if momentum is not None and (current is None or list(momentum) != list(current)):
            raise StrategyError("FedAvgM state: momentum and current name different weights")
        strategy.current_arrays = None if current is None else _record(current)
        strategy.momentum_vector = None if momentum is None else list(momentum.values())
    elif isinstance(strategy, AveragedDescent):
        arrays = _arrays_of(state, known={"iterate", "sent"}, strategy=strategy)
        records = {name: _record(part) for name, part in arrays.items()}
        strategy.iterate, strategy.sent = records.get("iterate"), records.get("sent")
    elif isinstance(strategy, _ADAPTIVE):
        arrays = _arrays_of(state, known={"current", "m", "v"}, strategy=strategy)
        strategy.current_arrays = arrays.get("current")
        strategy.m_t, strategy.v_t = arrays.get("m"), arrays.get("v")
    else:
        _require_stateless(strategy)
        _arrays_of(state, known=set(), strategy=strategy)


def _require_stateless(strategy: flower.Strategy) -> None:
    # Exact types: Flower derives FedMedian, Krum and others from FedAvg.
    name = type(strategy).__name__
    if type(strategy) not in (flower.FedAvg, flower.FedProx):
        refuse_individual(name)
        raise StrategyError(f"strategy {name!r}: this version does not know what it remembers")


def _arrays_of(
    state: RecordDict, *, known: set[str], strategy: flower.Strategy
) -> dict[str, _Arrays]:
    if strange := sorted(set(state) - known):
        raise StrategyError(
            f"the state of another strategy: {type(strategy).__name__} keeps "
            f"{sorted(known) or 'nothing'}, not {strange}"
        )
    return {name: _numpy(record) for name, record in state.array_records.items()}


def _record(arrays: _Arrays) -> ArrayRecord:
    # Arithmetic turns arrays without dimensions into scalars, which Flower does not take.
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def _numpy(record: ArrayRecord) -> _Arrays:
    return {name: array.numpy() for name, array in record.items()}
