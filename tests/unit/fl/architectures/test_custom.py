"""Architectures of somebody's own: found, checked, built; their source is part of the code hash."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fl.architectures import build, initial_weights, weights_of
from fl.code_hash import model_code_hash, own_code_hash
from fl.errors import ModelError
from fl.installed import installed_names
from fl.spec import ModelSpec
from fl.table import Table
from fl.training import train_locally
from fl.weights import encode_weights, layout
from privacy.noise import SecureGenerator
from privacy.plan import PrivacyPlan

Own = Callable[..., ModelSpec]


@pytest.mark.usefixtures("package")
class TestBuild:
    def test_it_gives_one_logit_for_each_row_empty_cells_or_not(self, own_spec: Own) -> None:
        module = build(own_spec(arguments={"width": 4}))
        rows = torch.zeros(7, 5)
        rows[2, 3] = float("nan")
        assert module(rows).shape == (7, 1)
        assert module(rows).isfinite().all()
        assert layout(weights_of(module)).size == 5 * 4 + 4 + 4 + 1

    def test_initial_weights_follow_from_the_seed_alone(self, own_spec: Own) -> None:
        first = initial_weights(own_spec(), seed=1)
        torch.rand(3)
        assert encode_weights(initial_weights(own_spec(), seed=1)) == encode_weights(first)
        assert encode_weights(initial_weights(own_spec(), seed=2)) != encode_weights(first)
        assert all(array.any() for array in first.values())

    def test_the_global_random_state_is_left_alone(self, own_spec: Own) -> None:
        before = torch.get_rng_state()
        initial_weights(own_spec(), seed=1)
        assert torch.equal(torch.get_rng_state(), before)

    def test_it_is_trained_like_any_other(self, own_spec: Own, step_plan: PrivacyPlan) -> None:
        spec = own_spec()
        module = build(spec)
        before = encode_weights(weights_of(module))
        random = np.random.default_rng(1)
        rows = Table(
            random.uniform(-1, 1, (20, 5)).astype(np.float32), np.ones(20, dtype=np.float32)
        )
        train_locally(
            module,
            rows,
            plan=step_plan,
            hyperparameters=spec.hyperparameters,
            generator=SecureGenerator.seeded(1),
        )
        assert encode_weights(weights_of(module)) != before

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (
                {"entry_point": "three-layers"},
                "not installed here; in the group 'fedmed.arch.*two-",
            ),
            ({"arguments": {"width": 0}}, "arguments: width: Input should be greater than or"),
            ({"arguments": {"widht": 8}}, "widht: there is no such argument; it takes width, bat"),
            ({"arguments": {"batch_norm": True}}, r"'1' \(BatchNorm1d\) mixes .*: use GroupNorm"),
            ({"arguments": {"outputs": 2}}, r"returns \(4, 2\) of 4 records; return one logit"),
            ({"most_parameters": 20}, "113 parameters, most_parameters is 20"),
            ({"entry_point": "no-module"}, "build returned list; return a torch.nn.Module"),
            (
                {"entry_point": "bare"},
                "hospital_models:bare has no Arguments; give it the pydantic",
            ),
            ({"entry_point": "lost"}, "hospital_models.lost:two_layers cannot be loaded"),
        ],
    )
    def test_what_is_wrong_is_said(self, own_spec: Own, fields: dict[str, Any], said: str) -> None:
        with pytest.raises(ModelError, match=said):
            build(own_spec(**fields))


def test_without_any_package_nothing_is_installed(own_spec: Own) -> None:
    assert installed_names() == []
    with pytest.raises(ModelError, match="there is nothing; install the Python package"):
        build(own_spec())


def test_two_packages_of_one_name_are_refused(package: Path, own_spec: Own) -> None:
    other = package.parent / "other_models-3.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other-models\nVersion: 3.0\n")
    (other / "entry_points.txt").write_text("[fedmed.architectures]\ntwo-layers = other:x\n")
    importlib.invalidate_caches()
    with pytest.raises(ModelError, match=r"hospital-models 1\.2, other-models 3\.0 all bring one"):
        build(own_spec())


class TestCodeHash:
    def test_it_covers_every_file_of_the_package(self, package: Path, own_spec: Own) -> None:
        hashes = [model_code_hash(own_spec())]
        for file in ("__init__.py", "layers.py", "never_imported.py", "compiled.so"):
            with (package / file).open("ab") as source:
                source.write(b"\n")
            hashes.append(model_code_hash(own_spec()))
        assert len(set(hashes)) == 5

    def test_nothing_is_imported_and_caches_do_not_enter(
        self, package: Path, own_spec: Own
    ) -> None:
        (package / "layers.py").write_text("raise SystemExit('this must not run')\n")
        before = model_code_hash(own_spec())
        (package / "__pycache__").mkdir()
        (package / "__pycache__" / "layers.cpython-311.pyc").write_bytes(b"compiled")
        (package / "README.md").write_text("Two layers.")
        assert model_code_hash(own_spec()) == before

    def test_arguments_and_what_the_name_stands_for_enter(
        self, package: Path, own_spec: Own
    ) -> None:
        before = model_code_hash(own_spec())
        assert model_code_hash(own_spec(arguments={"width": 8})) != before
        entries = package.parent / "hospital_models-1.2.dist-info" / "entry_points.txt"
        entries.write_text(entries.read_text().replace(":two_layers", ":other"))
        importlib.invalidate_caches()
        assert model_code_hash(own_spec()) != before

    @pytest.mark.usefixtures("package")
    def test_a_package_that_is_not_there_has_none(self, own_spec: Own) -> None:
        with pytest.raises(ModelError, match="there is no package 'no_such_package_at_all'"):
            model_code_hash(own_spec("nowhere"))
        with pytest.raises(ModelError, match="not installed here"):
            model_code_hash(own_spec("three-layers"))

    def test_folders_behind_links_are_refused(self, package: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (package / "more").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ModelError, match="more in package 'hospital_models' is a link"):
            own_code_hash("two-layers")
