"""``fedmed demo``: the whole stack, three hospitals and one training, watched live.

It leaves ``demo/report.json`` in the state directory. On a terminal the stack stays up until
Ctrl-C; without one it ends with the training.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import tenacity
from pydantic import BaseModel
from rich.console import Console
from rich.live import Live
from rich.table import Table

from deployments.demo_data import deal_out, demo_model, hospital_ids
from deployments.errors import ApiRefused, OperatorError
from deployments.operator import OperatorClient
from deployments.settings import StackSettings
from deployments.stack import control
from deployments.stack.prefect_secret import prefect_secret_file
from deployments.stack.state import StackState
from fl.spec import TrainingRequest
from privacy.settings import PrivacySettings
from tasks.apart import run_apart

_POLL_S: Final = 0.5
_MEMORY_POLL_S: Final = 2.0
_HOSPITAL_DEADLINE_S: Final = 120.0
_SHOWN: Final = ("auc", "auc_low", "auc_high", "accuracy", "sensitivity", "specificity")


class TrainingFailed(OperatorError):
    """The training ended as failed; the text is its reason."""


class DemoReport(BaseModel):
    """What a demo measured; ``demo/report.json``.

    ``round_s`` counts each round from its opening to its record, ``round_period_s`` is the median
    from one opening to the next, with all that Prefect does between two rounds.
    """

    rounds: int
    hospitals: int
    wall_s: float
    round_s: list[float]
    round_median_s: float
    round_period_s: float
    stack_start_s: float
    peak_memory_mb: float
    auc: float | None
    accuracy: float | None
    epsilon: float
    delta: float
    mlflow_run_id: str
    model_name: str
    model_version: str
    addresses: dict[str, str]


def run_demo(
    settings: StackSettings, *, rounds: int, hospitals: int, seed: int, console: Console
) -> DemoReport:
    """Runs the demo to its end and writes its report.

    Raises:
        OperatorError: a port is taken, a stack runs already, a server or the training failed.
    """
    started = time.monotonic()
    directory = settings.home / "demo"
    data = directory / "data" / f"seed-{seed}-of-{hospitals}"
    folders = {name: data / name for name in hospital_ids(hospitals)}
    with ThreadPoolExecutor(1) as pool:
        # Dealing out the rows takes a second or two and can go on while the servers start.
        dealt = pool.submit(run_apart, deal_out, data, hospitals=hospitals, seed=seed)
        with control.attached(settings, hospitals=folders, progress=_show_event(console)) as stack:
            dealt.result()
            with PeakMemory(stack.state) as memory:
                training = _train(settings, rounds=rounds, console=console)
                wall_s = time.monotonic() - started
            report = _report(
                training,
                wall_s=wall_s,
                stack_start_s=stack.start_s,
                peak_memory_mb=memory.peak_mb,
                settings=settings,
                hospitals=hospitals,
            )
            _write(directory / "report.json", report)
            _show_report(console, report)
            if (secret := prefect_secret_file(settings)) is not None:
                line = f"sign in to Prefect with the line in {secret}"
                console.print(line, highlight=False, soft_wrap=True)
            if sys.stdout.isatty():
                console.print("The stack stays up; Ctrl-C stops it.")
                with suppress(KeyboardInterrupt):
                    stack.wait()
    return report


def _train(settings: StackSettings, *, rounds: int, console: Console) -> dict[str, Any]:
    """Registers the model, starts a training once the hospitals are there, and follows it."""
    request = TrainingRequest(
        model=demo_model().name, rounds=rounds, privacy=PrivacySettings().request()
    )
    with OperatorClient.connect(settings) as operator:
        operator.add_model(demo_model())
        started = start_once_hospitals_are_there(operator, request)
        return follow(operator, started["training_id"], console=console)


def start_once_hospitals_are_there(
    operator: OperatorClient, request: TrainingRequest
) -> dict[str, Any]:
    """Starts a training as soon as enough hospitals have published their keys."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(hospitals_are_coming),
        wait=tenacity.wait_fixed(0.25),
        stop=tenacity.stop_after_delay(_HOSPITAL_DEADLINE_S),
        reraise=True,
    )(operator.start_training, request)


def hospitals_are_coming(error: BaseException) -> bool:
    """Whether a training was refused because hospitals have not published their keys yet."""
    return isinstance(error, ApiRefused) and error.problem_type.endswith("too-few-hospitals")


def follow(operator: OperatorClient, training_id: str, *, console: Console) -> dict[str, Any]:
    """Shows a training live until it has ended; returns it with its rounds.

    Raises:
        TrainingFailed: it ended as failed.
    """
    ended = 0
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            training = operator.training(training_id)
            if console.is_terminal:
                live.update(training_view(training))
            else:
                ended = _print_new_rounds(console, training, ended)
            if training["state"] in ("completed", "failed"):
                break
            time.sleep(_POLL_S)  # the API has no stream of events; this is its polling interval
    if training["state"] == "failed":
        raise TrainingFailed(f"training {training_id} failed: {training['reason']}")
    console.print(rounds_table(training))
    return training


class PeakMemory:
    """Samples the stack's memory in a thread and keeps the largest."""

    def __init__(self, state: StackState) -> None:
        self._state = state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory")
        self.peak_mb = 0.0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(_MEMORY_POLL_S):
            self.peak_mb = max(self.peak_mb, control.memory_mb(self._state))


def training_view(training: Mapping[str, Any]) -> Table:
    """Returns the live view: the rounds so far and where each hospital stands."""
    planned = training["planned_rounds"]
    table = Table(title=f"{training['model']}: training {training['state']}", title_justify="left")
    for column in ("round", "state", "seconds", "AUC", "epsilon", "hospitals"):
        table.add_column(column, justify="left" if column == "hospitals" else "right")
    for row in _rows(training):
        hospitals = "  ".join(f"{h['hospital_id']} {h['state']}" for h in row["hospitals"])
        table.add_row(
            f"{row['number']}/{planned}" if row["kind"] == "training" else "closing",
            row["state"],
            *(_figure(row[name]) for name in ("seconds", "auc", "epsilon")),
            hospitals,
        )
    return table


def rounds_table(training: Mapping[str, Any]) -> Table:
    """Returns the final table: a row a round, with the AUC of the model it made, if measured."""
    table = Table("round", "seconds", "AUC", "epsilon")
    for row in _rows(training):
        if row["kind"] == "training":
            figures = (_figure(row[name]) for name in ("seconds", "auc", "epsilon"))
            table.add_row(str(row["number"]), *figures)
    return table


def _rows(training: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rounds, each with the AUC of the weights it made, where the next round measured them."""
    rounds = [r for r in training["rounds"] if r["state"] != "pending"]
    following = [*rounds, None][1:]
    return [
        {**r, "auc": ((after or {}).get("metrics") or {}).get("auc")}
        for r, after in zip(rounds, following, strict=True)
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _print_new_rounds(console: Console, training: Mapping[str, Any], printed: int) -> int:
    """Prints a line for each round that has ended since; returns how many have."""
    ended = [r for r in training["rounds"] if r["state"] in ("completed", "failed")]
    for r in ended[printed:]:
        measured = r["metrics"] or {}
        figures = "  ".join(f"{name} {measured[name]:.4f}" for name in _SHOWN if name in measured)
        hospitals = "  ".join(f"{h['hospital_id']} {h['state']}" for h in r["hospitals"])
        reason = f"  {r['reason']}" if r["reason"] else ""
        console.print(
            f"round {r['number']} {r['kind']} {r['state']} in {r['seconds']:.2f} s  "
            f"{figures}  {hospitals}{reason}",
            highlight=False,
            soft_wrap=True,
        )
    return len(ended)


def _report(
    training: Mapping[str, Any],
    *,
    wall_s: float,
    stack_start_s: float,
    peak_memory_mb: float,
    settings: StackSettings,
    hospitals: int,
) -> DemoReport:
    trained = [r for r in training["rounds"] if r["kind"] == "training"]
    closing = training["rounds"][-1]["metrics"] or {}
    seconds = [round(r["seconds"], 3) for r in trained]
    return DemoReport(
        rounds=len(trained),
        hospitals=hospitals,
        wall_s=round(wall_s, 2),
        round_s=seconds,
        round_median_s=round(statistics.median(seconds), 3),
        round_period_s=round(statistics.median(_periods(training)), 3),
        stack_start_s=stack_start_s,
        peak_memory_mb=round(peak_memory_mb, 1),
        auc=closing.get("auc"),
        accuracy=closing.get("accuracy"),
        epsilon=trained[-1]["epsilon"],
        delta=training["plan"]["delta"],
        mlflow_run_id=training["mlflow_run_id"],
        model_name=training["model"],
        model_version=training["model_version"],
        addresses={
            "prefect": settings.prefect_ui,
            "mlflow": settings.mlflow_url,
            "api": settings.api_docs,
        },
    )


def _periods(training: Mapping[str, Any]) -> list[float]:
    """Seconds from each round's opening to the next one's."""
    opened = [datetime.fromisoformat(r["opened_at"]) for r in training["rounds"]]
    return [(after - before).total_seconds() for before, after in pairwise(opened)]


def _write(path: Path, report: DemoReport) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(report.model_dump_json(indent=2) + "\n")
    temporary.replace(path)


def _show_report(console: Console, report: DemoReport) -> None:
    auc, accuracy = (
        "not defined" if value is None else f"{value:.4f}"
        for value in (report.auc, report.accuracy)
    )
    console.print(
        f"AUC {auc}, accuracy {accuracy} at epsilon {report.epsilon:.2f}, "
        f"delta {report.delta:g}; model {report.model_name} version {report.model_version}",
        f"{report.rounds} rounds, median {report.round_median_s:.2f} s; stack ready after "
        f"{report.stack_start_s:.1f} s, all in {report.wall_s:.1f} s, "
        f"peak memory {report.peak_memory_mb:.0f} MB",
        *(f"{name:<8}{address}" for name, address in report.addresses.items()),
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )


def _show_event(console: Console) -> control.Progress:
    def show(event: Mapping[str, Any]) -> None:
        if event["event"] == "healthy":
            console.print(f"{event['service']:<10} healthy after {event['seconds']:.1f} s")
        if event["event"] == "warning":
            console.print(f"warning: {event['text']}", highlight=False, soft_wrap=True)

    return show
