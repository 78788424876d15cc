"""What a hospital's ledger costs: charges a second, on disk, and the price of many charges.

``python -m deployments.bench.privacy_ledger``. One charge at a time is what a round does; many in
one append is what a service of several trainings can do. Each append waits for the disk twice:
once for the database, once for the witness.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from rich.console import Console

from db.site_ledger import SiteLedger
from deployments.bench.report import Figure, figure, print_report, write_report
from deployments.settings import StackSettings
from privacy.accounts import Accounts
from privacy.ledger import Charge, Limits, Reservation
from privacy.mechanisms import PoissonSubsampledGaussian, Repeated
from tasks.hospital.ledger import HospitalLedger

ROUNDS: Final = 20_000
SINGLE: Final = 100
BATCH: Final = 1000
PRICED: Final = 10_000
REPEATS: Final = 5
LIMITS: Final = Limits(epsilon_per_training=10.0, epsilon_total=20.0, delta=1e-5)
_STEP: Final = PoissonSubsampledGaussian(noise_multiplier=20.0, sampling_rate=0.01)
_ROWS: Final[dict[str, Any]] = {
    "training": uuid4(),
    "cohort": "all",
    "fingerprint": "0" * 64,
    "split": "0" * 64,
}


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    path = StackSettings().home / "bench" / "privacy-ledger.json"
    print_report(write_report(path, figures()), Console())
    return 0


def figures() -> list[Figure]:
    """Returns what the ledger costs on the disk of the temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ledger = HospitalLedger(SiteLedger(home / "ledger.db", witness=home / "witness.jsonl"))
        plan = Repeated(_STEP, ROUNDS)
        reservation = Reservation(
            **_ROWS, rounds=ROUNDS, mechanisms={"training": plan, "held-out": plan}
        )
        ledger.accept([reservation], limits=LIMITS)
        single = [SINGLE / _seconds(ledger, charges(SINGLE), each=1) for _ in range(REPEATS)]
        batched = [BATCH / _seconds(ledger, charges(BATCH), each=BATCH) for _ in range(REPEATS)]
    unit = "charges/s"
    return [
        figure("ledger, one charge at a time, fsync", single, unit=unit, better="higher"),
        figure(
            f"ledger, {BATCH} charges in one append, fsync",
            batched,
            unit=unit,
            goal=1000,
            better="higher",
        ),
        figure(f"pricing {PRICED} charges of 5 kinds", pricing_s(PRICED), unit="s", better="lower"),
    ]


def charges(count: int, *, step: PoissonSubsampledGaussian = _STEP) -> list[Charge]:
    """Returns charges of that many attempts of one training."""
    return [
        Charge(**_ROWS, number=number, round_id=uuid4(), part="training", mechanism=step)
        for number in range(1, count + 1)
    ]


def pricing_s(count: int) -> list[float]:
    """Returns the seconds from entries to an epsilon, with mechanisms that were never priced."""
    seconds = []
    for repeat in range(REPEATS):
        steps = [
            PoissonSubsampledGaussian(20.0 + kind + repeat / 10, sampling_rate=0.01)
            for kind in range(5)
        ]
        entries = [charge for step in steps for charge in charges(count // 5, step=step)]
        started = time.perf_counter()
        Accounts(entries).spent_epsilon("all", delta=LIMITS.delta)
        seconds.append(time.perf_counter() - started)
    return seconds


def _seconds(ledger: HospitalLedger, wanted: Sequence[Charge], *, each: int) -> float:
    started = time.perf_counter()
    for place in range(0, len(wanted), each):
        ledger.accept(wanted[place : place + each], limits=LIMITS)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
