"""The commands of a hospital's ledger: ``fedmed hospital ledger …``; none needs the coordinator.

fedmed hospital ledger show --hospital-id north
fedmed hospital ledger verify --hospital-id north
fedmed hospital ledger export --hospital-id north > ledger.jsonl
fedmed hospital ledger verify --file ledger.jsonl
fedmed hospital ledger release --hospital-id north TRAINING
fedmed hospital ledger charge --hospital-id north TRAINING --rounds 3
fedmed hospital ledger repair --hospital-id north
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from db.errors import LedgerBroken, LedgerRolledBack
from db.ledger_entry import LedgerEntry
from db.ledger_witness import read_entries
from deployments.cli_site import HospitalId, settings_here
from deployments.errors import OperatorError
from fl.errors import PolicyError
from privacy.errors import PrivacyError
from tasks.hospital.ledger import NoSuchTraining, check_arithmetic
from tasks.hospital.ledger_summary import LedgerSummary, summarise
from tasks.hospital.policy import read_policy
from tasks.hospital.site import open_ledger

ledger_app = typer.Typer(
    help="What the hospital's patients have lost of their privacy.", no_args_is_help=True
)

_out = Console()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Training = Annotated[UUID, typer.Argument(help="The training's id.")]


@ledger_app.command("show")
def ledger_show(hospital_id: HospitalId, as_json: AsJson = False) -> None:
    """Show epsilon spent, reserved and left, by training and in total."""
    settings = settings_here(hospital_id)
    with _one_line(hospital_id):
        limits = read_policy(settings).limits
        summary = summarise(open_ledger(settings).accounts(), limits)
    if as_json:
        _print(json.dumps(summary.as_json()))
    else:
        _show(summary)


@ledger_app.command("verify")
def ledger_verify(
    hospital_id: Annotated[str | None, typer.Option(help="The hospital's id.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="An export to check instead.", exists=True, dir_okay=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the chain, the witness and the arithmetic; code 1 with what is wrong."""
    if (hospital_id is None) == (file is None):
        raise OperatorError("give --hospital-id, or --file for an export")
    try:
        if file is not None:
            entries: Sequence[LedgerEntry] = read_entries(file)
            check_arithmetic(entries)
        else:
            entries = open_ledger(settings_here(str(hospital_id))).verified()
    except (LedgerBroken, LedgerRolledBack, PrivacyError) as error:
        if as_json:
            _print(json.dumps({"valid": False, "reason": str(error)}))
        else:
            _print(f"not valid: {error}")
        raise typer.Exit(1) from None
    head = entries[-1].hash if entries else None
    if as_json:
        _print(json.dumps({"valid": True, "entries": len(entries), "head": head}))
    else:
        _print(f"valid: {len(entries)} entries" + (f", head {head}" if head else ""))


@ledger_app.command("export")
def ledger_export(
    hospital_id: HospitalId,
    as_json: Annotated[bool, typer.Option("--json", help="As always: JSON lines.")] = True,
) -> None:
    """Print all entries as JSON lines, which `verify --file` checks anywhere."""
    with _one_line(hospital_id):
        for entry in open_ledger(settings_here(hospital_id)).entries():
            typer.echo(entry.line())


@ledger_app.command("release")
def ledger_release(training: Training, hospital_id: HospitalId, as_json: AsJson = False) -> None:
    """Free what a training has reserved and not used; later rounds are charged as they come."""
    with _one_line(hospital_id):
        open_ledger(settings_here(hospital_id)).release(training)
    _done(as_json, {"released": str(training)}, f"released what training {training} has not used")


@ledger_app.command("charge")
def ledger_charge(
    training: Training,
    hospital_id: HospitalId,
    rounds: Annotated[int, typer.Option(help="Rounds that are missing.", min=1, max=1000)],
    as_json: AsJson = False,
) -> None:
    """Charge rounds that the ledger lost, whatever the limits say."""
    with _one_line(hospital_id):
        open_ledger(settings_here(hospital_id)).make_good(training, rounds=rounds)
    _done(
        as_json,
        {"charged": str(training), "rounds": rounds},
        f"charged {rounds} rounds to training {training}",
    )


@ledger_app.command("repair")
def ledger_repair(hospital_id: HospitalId, as_json: AsJson = False) -> None:
    """Bring the ledger and its witness together after one of them was restored from a backup."""
    with _one_line(hospital_id):
        done = open_ledger(settings_here(hospital_id)).repair()
    if done is None:
        _done(as_json, {"repaired": False}, "nothing to repair: ledger and witness agree")
        return
    counts = {
        "database": done.database,
        "witness": done.witness,
        "restored": done.restored,
        "carried": done.carried,
    }
    _done(
        as_json,
        {"repaired": True, **counts},
        f"repaired: the database held {done.database} entries and the witness {done.witness}; "
        f"{done.restored} restored, {done.carried} charged anew. If rounds are missing in both, "
        "`fedmed hospital ledger charge` adds them",
    )


@contextmanager
def _one_line(hospital_id: str) -> Iterator[None]:
    def refuse(error: Exception, command: str) -> NoReturn:
        raise OperatorError(
            f"{error}; see `fedmed hospital ledger {command} --hospital-id {hospital_id}`"
        ) from None

    try:
        yield
    except PolicyError as error:
        raise OperatorError(f"the hospital's policy.yaml: {error}") from None
    except NoSuchTraining as error:
        refuse(error, "show")
    except LedgerRolledBack as error:
        refuse(error, "repair")
    except (LedgerBroken, PrivacyError) as error:
        refuse(error, "verify")


def _show(summary: LedgerSummary) -> None:
    limits = summary.limits
    if not summary.cohorts:
        _print("the ledger is empty: nothing was reserved or spent")
    for cohort in summary.cohorts:
        table = Table(title=f"patient cohort {cohort.name}", title_justify="left")
        table.add_column("training", overflow="fold")  # whole, since `release` takes it
        for column in ("rounds", "spent", "reserved"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for row in cohort.trainings:
            figures = (f"{row.spent:.2f}", f"{row.reserved:.2f}")
            state = "open" if row.is_open else "closed"
            table.add_row(str(row.training), str(row.rounds), *figures, state)
        table.add_section()
        table.add_row("all trainings", "", f"{cohort.spent:.2f}", f"{cohort.reserved:.2f}")
        _out.print(table)
        _print(
            f"epsilon at delta {limits.delta:g}: {cohort.left:.2f} of {limits.epsilon_total:g} "
            f"left, at most {limits.epsilon_per_training:g} for one training"
        )
        for note in cohort.notes:
            _print(note)


def _done(as_json: bool, value: dict[str, Any], line: str) -> None:
    _print(json.dumps(value) if as_json else line)


def _print(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)
