"""A package with architectures of somebody's own, installed for the time of a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, Final

import pytest

from fl.contract import DataContract, Label, NumberColumn
from fl.spec import ModelSpec

PACKAGE: Final = "hospital_models"
SOURCE: Final = dedent(
    """
    from pydantic import BaseModel, Field
    from torch import nn

    from .layers import block


    class TwoLayers:
        class Arguments(BaseModel):
            width: int = Field(default=16, ge=1, le=512)
            batch_norm: bool = False
            outputs: int = 1

        def build(self, contract, arguments):
            (features,) = contract.shape
            last = nn.Linear(arguments.width, arguments.outputs)
            layers = [*block(features, arguments.width), last]
            if arguments.batch_norm:
                layers.insert(1, nn.BatchNorm1d(arguments.width))
            return nn.Sequential(*layers)


    class NoModule(TwoLayers):
        def build(self, contract, arguments):
            return [arguments.width]


    two_layers = TwoLayers()
    no_module = NoModule()
    bare = object()
    """
)
LAYERS: Final = dedent(
    """
    from torch import nn


    def block(inputs, outputs):
        return nn.Linear(inputs, outputs), nn.ReLU()
    """
)
ENTRY_POINTS: Final = dedent(
    """
    [fedmed.architectures]
    two-layers = hospital_models:two_layers
    no-module = hospital_models:no_module
    bare = hospital_models:bare
    lost = hospital_models.lost:two_layers
    nowhere = no_such_package_at_all:two_layers
    """
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package that is installed, as a distribution with entry points."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text(SOURCE)
    (folder / "layers.py").write_text(LAYERS)
    about = tmp_path / "hospital_models-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hospital-models\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def own_spec() -> Callable[..., ModelSpec]:
    """Makes the specification of a model of five columns with an architecture of one's own."""

    def make(entry_point: str = "two-layers", **fields: Any) -> ModelSpec:
        columns = tuple(NumberColumn(name=f"x{i}", minimum=-1, maximum=1) for i in range(5))
        return ModelSpec.model_validate(
            {
                "name": "own",
                "architecture": {"kind": "custom", "entry_point": entry_point, **fields},
                "contract": DataContract(columns=columns, label=Label(name="y")),
            }
        )

    return make
