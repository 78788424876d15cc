"""An architecture of somebody's own: an installed object that builds a module from a contract.

    class TwoLayers:
        class Arguments(BaseModel):
            width: int = 16

        def build(self, contract: DataContract, arguments: Arguments) -> nn.Module: ...

    two_layers = TwoLayers()  # "two-layers = my_package:two_layers" in the group of `fl.installed`

The module reads float32 records of shape (n, *contract.shape), without empty cells, pixels within
-1 … 1, and returns logits, (n, 1) or (n,).
``docs/models.md`` has a whole package.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from fl.architecture_spec import Custom
from fl.contract import DataContract
from fl.errors import ModelError
from fl.installed import installed
from fl.validity import check_private, check_probed


def build_custom(architecture: Custom, contract: DataContract, *, seed: int) -> nn.Module:
    """Returns the module that an installed architecture builds, in training mode.

    Its weights are those that it was made with, under PyTorch's generator seeded with ``seed``;
    the global random state is as it was before.

    Raises:
        ModelError: it is not installed, refuses its arguments, builds no module of this contract
            or one too large, or one that cannot be trained privately (`fl.validity`).
    """
    name = architecture.entry_point
    maker = _loaded(name)
    arguments = _arguments(name, maker, architecture.arguments)
    # The CPU's generator alone: PyTorch's own `manual_seed` reaches for accelerators, too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = maker.build(contract, arguments)
        except Exception as error:
            raise ModelError(
                f"architecture {name!r}: build failed: {type(error).__name__}: {error}"
            ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"architecture {name!r}: build returned {type(module).__name__}; return a "
            "torch.nn.Module"
        )
    module.train()
    check_private(module)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    if parameters > architecture.most_parameters:
        raise ModelError(
            f"architecture {name!r}: {parameters} parameters, most_parameters is "
            f"{architecture.most_parameters}; raise it in the specification or build a smaller one"
        )
    check_probed(module, contract.shape)
    return module


def _loaded(name: str) -> Any:
    entry_point = installed(name)
    try:
        maker = entry_point.load()
    except Exception as error:  # whatever a module does when it is imported
        raise ModelError(
            f"architecture {name!r}: {entry_point.value} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    schema = getattr(maker, "Arguments", None)
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)) or schema is BaseModel:
        raise ModelError(
            f"architecture {name!r}: {entry_point.value} has no Arguments; give it the pydantic "
            "model of its hyperparameters"
        )
    if not callable(getattr(maker, "build", None)):
        raise ModelError(
            f"architecture {name!r}: {entry_point.value} has no build(contract, arguments)"
        )
    return maker


def _arguments(name: str, maker: Any, given: dict[str, Any]) -> BaseModel:
    schema: type[BaseModel] = maker.Arguments
    # A misspelt hyperparameter would silently be the default.
    problems = [
        f"{field}: there is no such argument" for field in given if field not in _fields(schema)
    ]
    try:
        arguments = schema.model_validate(given)
    except ValidationError as error:
        invalid = [
            f"{'.'.join(map(str, problem['loc'])) or schema.__name__}: {problem['msg']}"
            for problem in error.errors()
            if problem["type"] != "extra_forbidden"
        ]
        problems += invalid
        if not problems:
            raise
    if problems:
        raise ModelError(
            f"architecture {name!r}: arguments: {'; '.join(problems)}; it takes "
            f"{', '.join(_fields(schema)) or 'none'}"
        )
    return arguments


def _fields(schema: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in schema.model_fields.items()]
