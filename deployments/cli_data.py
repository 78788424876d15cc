"""The commands about data: ``fedmed data …``; none needs a server, and none sends anything.

fedmed data contract init table.csv --label malignant
fedmed data contract show deployments/models/breast-cancer.yaml
fedmed data check --contract contract.yaml --data-path table.csv
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from db.disk import replace_file, write_new_file
from deployments.contract_files import read_contract, read_model
from deployments.errors import OperatorError
from fl.contract import DataContract

if TYPE_CHECKING:
    from deployments.data_check import Outcome

data_app = typer.Typer(help="Draft data contracts; hold data to them.", no_args_is_help=True)
contract_app = typer.Typer(help="Draft and show data contracts.", no_args_is_help=True)
data_app.add_typer(contract_app, name="contract")

_out = Console()

Force = Annotated[bool, typer.Option("--force", help="Replace the file that is there.")]


@contract_app.command("init")
def contract_init(
    files: Annotated[
        list[Path], typer.Argument(help="CSV files of one header.", exists=True, dir_okay=False)
    ],
    output: Annotated[Path, typer.Option(help="Where the draft is written.")] = Path(
        "contract.yaml"
    ),
    label: Annotated[str | None, typer.Option(help="The label's column.")] = None,
    negative: Annotated[
        str | None, typer.Option(help="How the label's negative class is written.")
    ] = None,
    positive: Annotated[
        str | None, typer.Option(help="How the label's positive class is written.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="The column that says whose a row is.")
    ] = None,
    public_data: Annotated[
        bool,
        typer.Option(
            "--public-data",
            help="The files are public or synthetic: propose ranges and names from them.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take all proposals, ask nothing.")] = False,
    force: Force = False,
) -> None:
    """Draft a data contract from tables' headers and the kinds of their cells."""
    from deployments.contract_draft import NOT_HELD, draft_yaml
    from deployments.contract_look import look
    from deployments.contract_questions import Asked, draft_of

    _require_free(output, force=force)
    asked = Asked(
        label=label,
        patient=patient,
        negative=negative,
        positive=positive,
        public=public_data,
        prompt=None if yes else typer.prompt,
        say=_print,
    )
    draft = draft_of(look(files), asked)
    _write(output, draft_yaml(draft), force=force)
    _show(draft.contract)
    for name, origin in draft.origins.items():
        if NOT_HELD in origin:
            _print(f"warning: {name}: {origin}")
    _print(
        f"wrote {output}; read it, then hold tables to it: `fedmed data check --contract {output}`"
    )


@contract_app.command("show")
def contract_show(
    file: Annotated[Path, typer.Argument(help="A contract or a model, YAML.", dir_okay=False)],
) -> None:
    """Show what a contract, or a model's, asks of a table."""
    _show(read_contract(file))


@data_app.command("check")
def data_check(
    data_path: Annotated[
        Path | None,
        typer.Option(help="The data; else those of the hospital on this machine.", exists=True),
    ] = None,
    contract: Annotated[
        Path | None, typer.Option(help="A data contract, YAML.", dir_okay=False)
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model whose contract it is, YAML.", dir_okay=False)
    ] = None,
    hospital_id: Annotated[
        str | None, typer.Option(help="Whose data and split key; else the only hospital here.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the report here too; only you can read it.")
    ] = None,
    force: Force = False,
) -> None:
    """Hold a hospital's data to a contract; the report stays on this machine.

    Ends with 1 when a rule is broken: a round would be refused.
    """
    from deployments.data_check import checked, site_of_check

    if (contract is None) == (model is None):
        raise OperatorError("say --contract FILE or --model FILE, one of them")
    if json_file is not None:
        _require_free(json_file, force=force)
    rules = read_contract(contract) if contract else read_model(model or Path()).contract
    site = site_of_check(hospital_id)
    path = data_path or (site.data_path if site else None)
    if path is None:
        raise OperatorError("no hospital here has named its data: say --data-path PATH")
    outcome = checked(path, rules, site.split_key if site else None)
    if json_file is not None:
        _write(
            json_file,
            json.dumps(outcome.as_json(), indent=2, ensure_ascii=False) + "\n",
            force=force,
        )
    _show_outcome(outcome)
    if json_file is not None:
        _print(f"wrote {json_file}: it counts patients' data and stays here")
    if not outcome.fits:
        raise typer.Exit(1)


def _show_outcome(outcome: Outcome) -> None:
    from deployments.data_tables import report_lines, report_table

    if outcome.report is None:
        for violation in outcome.broken:
            _print(f"fail  {violation}")
    else:
        _out.print(report_table(outcome.report))
        for line in report_lines(outcome.report):
            _print(line)
    _print(
        "the data fit the contract; these counts stay here"
        if outcome.fits
        else "the data do not fit the contract: a round would be refused, and the coordinator "
        "would learn which columns break which rules, and no count"
    )


def _show(contract: DataContract) -> None:
    from deployments.data_tables import contract_table

    _out.print(contract_table(contract))


def _require_free(path: Path, *, force: bool) -> None:
    if path.exists() and not force:
        raise OperatorError(f"{path} is there; name another, or replace it with --force")
    if not path.resolve().parent.is_dir():
        raise OperatorError(f"{path}: there is no such folder; make it first")


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        (replace_file if force else write_new_file)(path, text.encode())
    except FileExistsError:
        raise OperatorError(f"{path} is there; name another, or replace it with --force") from None
    except OSError as error:
        raise OperatorError(f"{path}: {error.strerror or error}") from None


def _print(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)
