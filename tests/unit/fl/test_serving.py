"""The exported model: plain files, raw rows in, scores out, through MLflow without a pickle."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fl.architecture_spec import HogLogistic, Logistic, Mlp
from fl.architectures import build, initial_weights, load_weights
from fl.contract import DataContract, Images, Label, NumberColumn
from fl.data import load_table
from fl.errors import ContractViolation, ModelError
from fl.serving import Predictor, example_input, export_model, load_predictor, predictor_of
from fl.spec import ModelSpec

CONTRACT = DataContract(
    columns=(
        NumberColumn(name="age", minimum=0, maximum=120, unit="a"),
        NumberColumn(name="mean radius", minimum=-5, maximum=40),
    ),
    label=Label(name="diagnosis", negative="benign", positive="malignant"),
)
MLP = ModelSpec(name="breast-cancer", architecture=Mlp(hidden=(8, 4)), contract=CONTRACT)
LOGISTIC = ModelSpec(name="breast-cancer", architecture=Logistic(), contract=CONTRACT)
FRAME = pd.DataFrame(
    {
        "mean radius": [1.5, 40.0, -5.0, 12.25],
        "note": ["a", "b", "c", "d"],
        "age": [0, 120, 57, 33],
    },
    index=[7, 3, 9, 1],
)


@pytest.fixture(params=[MLP, LOGISTIC], ids=lambda spec: spec.architecture.kind)
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ModelSpec, Path]:
    spec: ModelSpec = request.param
    directory = tmp_path / "exports" / "model"
    export_model(directory, spec, initial_weights(spec, seed=5))
    return spec, directory


def expected_scores(spec: ModelSpec, tmp_path: Path) -> np.ndarray:
    """Scores the way a hospital would: through its own table and the bare module."""
    path = tmp_path / "rows.csv"
    FRAME.assign(diagnosis="benign").to_csv(path, index=False)
    module = build(spec)
    load_weights(module, initial_weights(spec, seed=5))
    with torch.inference_mode():
        logits = module(torch.from_numpy(load_table(path, spec.contract).features))
    return torch.sigmoid(logits).numpy().reshape(-1)


def test_an_exported_model_scores_raw_rows_as_training_would(
    exported: tuple[ModelSpec, Path], tmp_path: Path
) -> None:
    spec, directory = exported
    result = load_predictor(directory).predict(FRAME)
    np.testing.assert_allclose(result["score"], expected_scores(spec, tmp_path), rtol=1e-6)
    assert list(result.columns) == ["score", "label"]
    assert list(result.index) == list(FRAME.index)
    called = np.where(result["score"] >= 0.5, "malignant", "benign")
    assert list(result["label"]) == list(called)


def test_an_export_is_plain_files_that_others_can_read(exported: tuple[ModelSpec, Path]) -> None:
    spec, directory = exported
    names = ["contract.yaml", "spec.json", "weights.safetensors"]
    assert sorted(p.name for p in directory.iterdir()) == names
    assert ModelSpec.model_validate(json.loads((directory / "spec.json").read_text())) == spec


def test_one_row_and_no_rows_are_scored(exported: tuple[ModelSpec, Path]) -> None:
    spec, directory = exported
    predictor = load_predictor(directory)
    assert len(predictor.predict(FRAME.iloc[:1])) == 1
    assert len(predictor.predict(FRAME.iloc[:0])) == 0
    assert np.isfinite(predictor.predict(example_input(spec))["score"]).all()


def test_the_model_card_lies_beside_the_weights(tmp_path: Path) -> None:
    weights = initial_weights(LOGISTIC, seed=1)
    export_model(tmp_path, LOGISTIC, weights, card="# Model card")
    assert (tmp_path / "MODEL_CARD.md").read_text() == "# Model card"


def test_weights_that_diverged_are_not_scored_with() -> None:
    weights = {name: w * np.float32("nan") for name, w in initial_weights(MLP, seed=3).items()}
    with pytest.raises(ModelError, match="4 of 4 scores are not numbers"):
        predictor_of(MLP, weights).predict(FRAME)


GREY = DataContract(images=Images(height=8, width=9), label=CONTRACT.label)
COLOUR = DataContract(images=Images(height=8, width=9, channels=3), label=CONTRACT.label)


class Brightness(torch.nn.Module):
    """The first channel's mean brightness, of records as a table has them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0].float().mean(dim=(1, 2)) - 100


def images_model(contract: DataContract) -> Predictor:
    spec = ModelSpec(name="m", architecture=HogLogistic(), contract=contract)
    return Predictor(spec, Brightness())


@pytest.mark.parametrize(
    ("contract", "shape"), [(GREY, (2, 8, 9)), (GREY, (2, 8, 9, 1)), (COLOUR, (2, 8, 9, 3))]
)
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_images_are_read_as_arrays(
    contract: DataContract, shape: tuple[int, ...], kind: type
) -> None:
    pixels = np.zeros(shape, kind)
    pixels[1, ..., 0] = 200  # the first channel, or the last column of a grey image
    if len(shape) == 3 or shape[-1] == 1:
        pixels[1] = 200
    answer = images_model(contract).predict(pixels)
    assert list(answer["label"]) == ["benign", "malignant"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 9, 8), np.uint8), r"shape \(2, 9, 8\): give an array of shape"),
        (np.zeros((2, 8, 9, 3), np.uint8), r"shape \(2, 8, 9, 3\)"),
        (np.zeros((8, 9), np.uint8), r"shape \(8, 9\)"),
        (np.full((2, 8, 9), 256), r"2 of 2 images have pixels outside 0 to 255"),
        (np.full((1, 8, 9), np.nan), r"1 of 1 images have pixels outside"),
        (np.full((1, 8, 9), "1"), "type <U1: give uint8 or float32"),
        (FRAME, "DataFrame: give an array of shape"),
    ],
)
def test_what_is_no_such_image_is_refused(given: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        images_model(GREY).predict(given)


def test_an_example_image_is_one_that_can_be_scored() -> None:
    for contract in (GREY, COLOUR):
        model = images_model(contract)
        example = example_input(model.spec)
        assert len(model.predict(example)) == 1


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop(columns="age"), r"age: missing-column \(1\)"),
        (FRAME.assign(age=[1, 2, 3, 400]), r"age: out-of-range \(1\)"),
        (FRAME.assign(age=[1, None, None, 4]), r"age: missing-value \(2\)"),
        (FRAME.assign(age=["1", "x", "2", "3"]), r"age: not-a-number \(1\)"),
    ],
)
def test_rows_outside_the_contract_are_refused(frame: pd.DataFrame, message: str) -> None:
    predictor = Predictor(LOGISTIC, build(LOGISTIC))
    with pytest.raises(ContractViolation, match=message):
        predictor.predict(frame)


def test_input_of_another_kind_is_refused() -> None:
    predictor = Predictor(LOGISTIC, build(LOGISTIC))
    with pytest.raises(ModelError, match="ndarray: give a pandas DataFrame"):
        predictor.predict(FRAME.to_numpy())
    with pytest.raises(ModelError, match=r"params \['threshold'\]"):
        predictor.predict(FRAME, params={"threshold": 0.9})


def test_weights_of_another_architecture_are_not_exported(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        export_model(tmp_path / "model", LOGISTIC, initial_weights(MLP, seed=1))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("damage", ["no spec", "other spec", "no weights", "cut", "other weights"])
def test_a_damaged_export_is_refused(tmp_path: Path, damage: str) -> None:
    export_model(tmp_path, LOGISTIC, initial_weights(LOGISTIC, seed=1))
    spec, weights = tmp_path / "spec.json", tmp_path / "weights.safetensors"
    match damage:
        case "no spec":
            spec.unlink()
        case "other spec":
            spec.write_text('{"name": "x"}')
        case "no weights":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-3])
        case "other weights":
            export_model(tmp_path / "other", MLP, initial_weights(MLP, seed=1))
            weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(ModelError):
        load_predictor(tmp_path)


def test_mlflow_serves_the_export_and_no_pickle_is_written(
    exported: tuple[ModelSpec, Path], tmp_path: Path
) -> None:
    spec, directory = exported
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow itself warns of is not ours to mend
        import mlflow.pyfunc

        path = tmp_path / "mlflow-model"
        mlflow.pyfunc.save_model(
            path, loader_module="fl.serving", data_path=str(directory), pip_requirements=[]
        )
        result = mlflow.pyfunc.load_model(str(path)).predict(FRAME)
    np.testing.assert_allclose(result["score"], expected_scores(spec, tmp_path), rtol=1e-6)
    files = [p for p in path.rglob("*") if p.is_file()]
    assert {p.name for p in files} >= {"MLmodel", "spec.json", "weights.safetensors"}
    assert not [p for p in files if p.suffix in {".pkl", ".pickle", ".pt", ".pth"}]
    others = [p for p in files if p.suffix != ".safetensors"]
    assert not [p for p in others if p.read_bytes()[:1] == b"\x80"]  # how a pickle starts
