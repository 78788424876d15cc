"""A data contract and a report on data as a person at a terminal reads them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from fl.contract import CategoryColumn, DataContract, NumberColumn
from fl.data_report import DataReport, counted


def contract_table(contract: DataContract) -> Table:
    """What a hospital's table must look like, a line a column."""
    table = Table()
    for name in ("column", "what it is", "values", "unit", "empty cells"):
        table.add_column(name, overflow="fold")
    for column in contract.columns:
        table.add_row(*map(escape, _described(column)))
    if (images := contract.images) is not None:
        size = f"{images.channels} × {images.height} × {images.width} pixels"
        table.add_row("images", size, f"{images.minimum:g} to {images.maximum:g}", "", "")
    label = contract.label
    classes = f"{label.negative} (negative), {label.positive} (positive)"
    table.add_row(escape(label.name), "label", escape(classes), "", "refuse")
    if contract.patient is not None:
        table.add_row(escape(contract.patient), "patient", "any text", "", "refuse")
    for subgroup in contract.subgroups:
        groups = ", ".join(subgroup.labels)
        table.add_row(*map(escape, (subgroup.name, "subgroup", groups, "", "in no group")))
    return table


def report_table(report: DataReport) -> Table:
    """Counts by column, those that are not all zero; what breaks a rule stands out."""
    counts = {
        "empty": [_share(column.missing, report.rows) for column in report.columns],
        "no number": [_count(column.not_a_number) for column in report.columns],
        "not whole": [_count(column.not_whole) for column in report.columns],
        "out of range": [_count(column.out_of_range) for column in report.columns],
        "unknown name": [_count(column.unknown) for column in report.columns],
    }
    shown = {name: cells for name, cells in counts.items() if any(cells)}
    table = Table()
    table.add_column("column", overflow="fold")
    table.add_column("what it is", no_wrap=True)
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for column, *cells in zip(report.columns, *shown.values(), strict=True):
        style = "bold red" if column.broken else "yellow" if column.suspicion else None
        table.add_row(escape(column.name), column.kind, *cells, style=style)
    return table


def report_lines(report: DataReport) -> Iterator[str]:
    """All else that a report says: first what there is, then rules, then warnings."""
    repeats = report.repeats
    rows = counted(report.rows, "row")
    yield f"{rows}, {report.negative} negative, {report.positive} positive"
    if repeats.patients is not None:
        several = repeats.patients_of_several_rows
        yield f"{counted(repeats.patients, 'patient')}, {several} of several rows"
    for violation in report.broken:
        yield f"fail  {violation}"
    for warning in report.warnings:
        yield f"warn  {warning}"


def _described(column: NumberColumn | CategoryColumn) -> tuple[str, str, str, str, str]:
    if isinstance(column, CategoryColumn):
        names = ", ".join(name or "(nothing)" for name in column.categories)
        return column.name, "category", names, "", column.missing
    values = f"{column.minimum:g} to {column.maximum:g}"
    if column.typical is not None:
        values += f", typical {column.typical[0]:g} to {column.typical[1]:g}"
    if column.out_of_range == "clip":
        values += ", clipped"
    kind = "whole number" if column.whole else "number"
    return column.name, kind, values, column.unit, column.missing


def _count(count: int) -> str:
    return str(count) if count else ""


def _share(count: int, rows: int) -> str:
    return f"{count} ({count / rows:.1%})" if count else ""
