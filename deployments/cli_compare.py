"""``fedmed compare``: what a consortium would gain, before it starts; needs no server.

fedmed compare north.csv south.csv west.csv --model spec.yaml --public-data
fedmed compare table.csv --hospitals 5 --epsilon 0.5 --epsilon 2 --model spec.yaml --public-data
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as RichTable

from db.disk import replace_file
from deployments.contract_files import read_model
from deployments.errors import OperatorError
from fl.errors import ContractViolation, FederationError
from privacy.errors import PrivacyError

if TYPE_CHECKING:
    from deployments.comparison import Deal, Result
    from fl.spec import ModelSpec
    from fl.table import Table

_LEAST: Final = 3
_out = Console()


def compare(
    data: Annotated[
        list[Path],
        typer.Argument(help="A file or folder for each hospital; one is dealt out to --hospitals."),
    ],
    model: Annotated[
        Path,
        typer.Option(
            help="The model's specification, or a data contract alone; YAML.",
            exists=True,
            dir_okay=False,
        ),
    ],
    epsilon: Annotated[
        list[float] | None, typer.Option(help="An epsilon to try; may be given several times.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Delta of epsilon.", min=1e-12, max=1e-3)] = 1e-5,
    noise_shares: Annotated[
        int, typer.Option(min=1, help="Try also noise shared by so many honest hospitals.")
    ] = 1,
    hospitals: Annotated[
        int, typer.Option(min=_LEAST, max=100, help="Hospitals to deal a single file out to.")
    ] = _LEAST,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Random splits to try.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of deals, splits and noise.")] = 0,
    output: Annotated[
        Path, typer.Option(help="Folder for comparison.json and comparison.png.")
    ] = Path("comparison"),
    public_data: Annotated[
        bool, typer.Option("--public-data", help="The data are public or synthetic.")
    ] = False,
) -> None:
    """Compare hospitals alone and together, with and without privacy, on public data."""
    if not public_data:
        raise OperatorError(
            "compare reads every hospital's rows in one place and protects none of them: give "
            "public or synthetic data, and say so with --public-data"
        )
    from deployments.comparison import deals, settings

    spec = read_model(model)
    tables = _tables(data, spec, hospitals=hospitals, seed=seed)
    made = list(deals(tables, repeats=repeats, seed=seed))
    _require_both_classes(made)
    chosen = settings(epsilon or (1.0, 3.0, 8.0), noise_shares=noise_shares)
    results = _compared(spec, made, chosen, delta=delta)
    rows = sum(len(table) for table in tables)
    _out.print(
        _shown(results, f"{spec.name}: {rows} rows, {len(tables)} hospitals, {repeats} splits")
    )
    for path in _written(output, results, delta=delta):
        _out.print(f"written to {path}", highlight=False, soft_wrap=True)


def _tables(data: Sequence[Path], spec: ModelSpec, *, hospitals: int, seed: int) -> list[Table]:
    import numpy as np

    from fl.data import load_table

    if 1 < len(data) < _LEAST:
        raise OperatorError(f"{len(data)} hospitals: a federation needs {_LEAST} at least")
    tables = []
    for path in data:
        try:
            tables.append(load_table(path, spec.contract))
        except ContractViolation as violation:
            raise OperatorError(
                f"{path} breaks the contract: {violation}; `fedmed data check` says more"
            ) from None
    if len(tables) > 1:
        return tables
    (whole,) = tables
    # By patient, where there are patients: one is at one hospital.
    units = np.arange(len(whole)) if whole.patients is None else whole.patients
    dealt = np.random.default_rng(seed).integers(0, hospitals, int(units.max(initial=-1)) + 1)
    return [whole.rows(dealt[units] == hospital) for hospital in range(hospitals)]


def _require_both_classes(made: Sequence[Deal]) -> None:
    for deal in made:
        positives = int(deal.test.labels.sum())
        if positives in (0, len(deal.test)):
            raise OperatorError(
                f"of {len(deal.test)} rows to test on {positives} are positive: nothing can be "
                "compared on them; give more rows"
            )


def _compared(
    spec: ModelSpec, made: Sequence[Deal], chosen: Sequence[Any], *, delta: float
) -> list[Result]:
    from deployments.comparison import compare as results_of

    results = []
    try:
        with Progress(console=_out, transient=True) as progress:
            bar = progress.add_task("training", total=len(chosen))
            for result in results_of(spec, made, chosen, delta=delta):
                results.append(result)
                progress.advance(bar)
    except (PrivacyError, FederationError, ValueError) as error:
        raise OperatorError(str(error)) from None
    return results


def _shown(results: Sequence[Result], title: str) -> RichTable:
    table = RichTable(title=title, title_justify="left")
    table.add_column("model")
    for column in ("accuracy", "±", "AUC", "±"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(
            result.setting.name,
            *(
                f"{value:.3f}"
                for values in (result.accuracy, result.auc)
                for value in (statistics.fmean(values), statistics.pstdev(values))
            ),
        )
    return table


def _written(folder: Path, results: Sequence[Result], *, delta: float) -> tuple[Path, Path]:
    from deployments.comparison_plot import comparison_figure

    figures, picture = folder / "comparison.json", folder / "comparison.png"
    content = {
        "delta": delta,
        "results": [
            {
                "kind": result.setting.kind,
                "epsilon": result.setting.epsilon,
                "noise_shares": result.setting.noise_shares,
                "accuracy": result.accuracy,
                "auc": result.auc,
            }
            for result in results
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(figures, (json.dumps(content, indent=2) + "\n").encode())
        comparison_figure(results, delta=delta).savefig(picture, dpi=150)
    except OSError as error:
        raise OperatorError(f"{folder}: {error.strerror or error}") from None
    return figures, picture
