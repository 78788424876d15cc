"""The hospital's table against the models that are registered, and one private step on trial.

The table is read in a child that is forked for it and ends with it: no row is ever in this process.
Nothing is released and nothing is charged: what the step computes goes with the child. Counts and
warnings (`fl.data_report`) stay on this terminal.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from deployments.at_hand import exchange_at_hand
from deployments.checks.report import Finding, Place, fail, ok, warn
from tasks.hospital.exchange import OfferedModel
from tasks.hospital.exchange_errors import ExchangeError
from tasks.hospital.site import SiteSettings, keys_directory, make_split_key


def check_data(place: Place) -> Iterator[Finding]:
    """Each model's contract, the newest version of it; a private step for one that fits."""
    if place.data_path is None:
        yield fail("nobody has said where the table is: `fedmed hospital check --data-path DIR`")
        return
    if not place.data_path.exists():
        yield fail(f"{place.data_path} is not there: mount it, or name another with --data-path")
        return
    try:
        models = _newest(place.settings)
    except (ExchangeError, httpx.HTTPError) as error:
        yield fail(f"the coordinator does not show its models: {error}")
        return
    if not models:
        yield warn("the coordinator has registered no model yet: check again when it has")
    tried = False
    for model in models:
        named = f"{model.name} version {model.version}"
        found = in_child(partial(hold, place.settings, place.data_path, model, step=not tried))
        if "violations" in found:
            yield warn(f"does not fit {named}: {found['violations']}")
        elif "ended" in found:
            yield fail(f"{named}: {found['ended']}")
        else:
            yield ok(f"fits {named}: {found['rows']} rows, {found['positive']} positive")
        for warning in found.get("warnings", ()):
            yield warn(f"{named}: {warning}")
        if "step_s" in found:
            tried = True
            yield ok(
                f"a private step of {named} took {found['step_s']:.2f} s and "
                f"{found['peak_mb']:.0f} MB; nothing was released or charged"
            )


def hold(
    settings: SiteSettings, data_path: Path, model: OfferedModel, *, step: bool
) -> dict[str, Any]:
    """Holds the table to a contract and, if it fits, takes one private step; plain values."""
    from deployments.data_check import checked
    from fl.data import load_table
    from fl.errors import ContractViolation

    contract = model.spec.contract
    found: dict[str, Any] = {}
    report = checked(data_path, contract, make_split_key(keys_directory(settings))).report
    found["warnings"] = [] if report is None else list(report.warnings)
    try:
        table = load_table(data_path, contract)
    except ContractViolation as violation:
        return found | {"violations": str(violation)}
    found |= {"rows": len(table), "positive": int(table.labels.sum())}
    return found | (_private_step(settings, model, table) if step else {})


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what a forked child returns; ``ended`` says how it went down instead."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            with os.fdopen(write, "w") as answer:
                json.dump(work(), answer)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)  # never into the parent's own way out
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        found: dict[str, Any] = json.loads(text)
        return found
    if code == -signal.SIGKILL:
        return {"ended": "the trial was killed: most likely this machine has too little memory"}
    return {"ended": f"the trial ended with code {code}; its error is above"}


def _private_step(settings: SiteSettings, model: OfferedModel, table: Any) -> dict[str, Any]:
    import torch

    from fl.architectures import build
    from fl.split import split
    from fl.training import train_locally
    from privacy.noise import SecureGenerator
    from privacy.plan import PrivacyPlan

    # The threads of a pool do not come along when a process forks, and the child waits for them.
    torch.set_num_threads(1)
    plan = PrivacyPlan(
        clip_norm=0.5,
        noise_multiplier=1.0,
        evaluation_noise_multiplier=1.0,
        sampling_rate=1.0,
        expected_batch_size=128,
        steps_per_round=1,
        rounds=1,
        delta=1e-5,
    )
    training = split(table, key=make_split_key(keys_directory(settings))).train
    began = time.perf_counter()
    train_locally(
        build(model.spec),
        training,
        plan=plan,
        hyperparameters=model.spec.hyperparameters,
        generator=SecureGenerator.from_os(),
    )
    return {
        "step_s": time.perf_counter() - began,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _newest(settings: SiteSettings) -> list[OfferedModel]:
    with exchange_at_hand(settings) as exchange:
        newest: dict[str, OfferedModel] = {}
        for model in sorted(exchange.models(), key=lambda model: (model.name, model.version)):
            newest[model.name] = model
    return list(newest.values())
