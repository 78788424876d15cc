"""``make bench-privacy``: what privacy costs in time, and in accuracy on little data."""

from __future__ import annotations

import sys

from rich.console import Console

from deployments.bench import privacy_ledger, privacy_pricing, privacy_step, privacy_utility
from deployments.bench.report import print_report, write_report
from deployments.settings import StackSettings


def main() -> int:
    """Runs the benchmark; returns 0 whether or not the goals are met."""
    console = Console()
    figures = [
        figure
        for part in (privacy_step, privacy_pricing, privacy_ledger, privacy_utility)
        for figure in part.figures()
    ]
    path = StackSettings().home / "bench" / "privacy.json"
    print_report(write_report(path, figures), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
