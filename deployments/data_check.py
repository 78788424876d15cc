"""A hospital's data held to a contract: what `fedmed data check` and `fedmed hospital check` do.

    outcome = checked(Path("data/"), contract, split_key)
    outcome.fits

The outcome is about patients: it is shown on the hospital's terminal or kept in its own files, and
no part of it is sent. What the coordinator learns is in `tasks.hospital.guard.check_data`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from deployments.errors import OperatorError
from deployments.settings import StackSettings
from fl.contract import DataContract
from fl.data_report import DataReport, report_on
from fl.errors import ContractViolation, Violation
from fl.image_report import report_on_images
from fl.sources import blocks, pixels
from tasks.hospital.site_file import SiteFileBroken, read_site_file, sites_below

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found.

    Attributes:
        broken: the contract's rules that the data break.
        report: None where there is no table, or not the columns, to report on.
    """

    broken: tuple[Violation, ...]
    report: DataReport | None

    @property
    def fits(self) -> bool:
        """Whether a round would take the data."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """Returns the outcome as plain values."""
        report = None if self.report is None else asdict(self.report)
        warnings = [] if self.report is None else list(self.report.warnings)
        broken = [asdict(violation) for violation in self.broken]
        return {"format": FORMAT, "fits": self.fits, "broken": broken, "warnings": warnings} | {
            "report": report
        }


@dataclass(frozen=True, slots=True)
class CheckedSite:
    """Whose data are checked.

    Attributes:
        data_path: its data; None when nobody has named them.
        split_key: what fixes its held-out rows; None before its first start.
    """

    data_path: Path | None
    split_key: bytes | None


def checked(path: Path, contract: DataContract, split_key: bytes | None = None) -> Outcome:
    """Reads data and holds them to a contract."""
    try:
        report = _report(path, contract, split_key)
    except ContractViolation as violation:
        return Outcome(violation.violations, None)
    return Outcome(report.broken, report)


def site_of_check(hospital_id: str | None) -> CheckedSite | None:
    """Returns the hospital whose data are meant, the only one of this machine if none is named.

    It is looked at and not changed: a key that is not there is not made.

    Raises:
        OperatorError: the hospital that was named is not here.
    """
    hospitals = StackSettings().home / "hospitals"
    try:
        if hospital_id is None:
            found = sites_below(hospitals)
            if len(found) != 1:
                return None
            hospital_id, data_path = found[0].hospital_id, found[0].data_path
        else:
            site = read_site_file(hospitals / hospital_id)
            data_path = None if site is None else site.data_path
    except SiteFileBroken as error:
        raise OperatorError(str(error)) from None
    home = hospitals / hospital_id
    if not home.is_dir():
        raise OperatorError(f"no hospital {hospital_id!r} below {hospitals}")
    key = home / "keys" / "split.key"
    return CheckedSite(data_path, key.read_bytes() if key.exists() else None)


def _report(path: Path, contract: DataContract, split_key: bytes | None) -> DataReport:
    rows = blocks(path, contract)
    if contract.images is None:
        return report_on(rows, contract, split_key=split_key)
    return report_on_images(rows, pixels(path, contract), contract, split_key=split_key)
