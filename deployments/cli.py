"""The command line, ``fedmed``.

Every mistake of a user ends in one line on standard error and exit code 2. The commands of a
hospital are in `deployments.cli_hospital`, those about privacy in `deployments.cli_privacy`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import click
import typer
from dotenv import load_dotenv
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from deployments.cli_compare import compare
from deployments.cli_data import data_app
from deployments.cli_hospital import hospital_app
from deployments.cli_privacy import privacy_app
from deployments.cli_user import auth_app, user_app
from deployments.confine import CLEAN
from deployments.contract_files import read_model
from deployments.errors import OperatorError
from deployments.settings import StackSettings
from fl.spec import DEFAULT_PURPOSE, ModelSpec

USAGE_ERROR: Final = 2

app = typer.Typer(
    name="fedmed",
    help="Hospitals train diagnostic models together; no patient row leaves a hospital.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(hospital_app, name="hospital")
app.add_typer(data_app, name="data")
app.command("compare")(compare)
app.add_typer(privacy_app, name="privacy")
app.add_typer(user_app, name="user")
app.add_typer(auth_app, name="auth")
model_app = typer.Typer(help="Register models.", no_args_is_help=True)
app.add_typer(model_app, name="model")

_out = Console()


@app.command()
def up() -> None:
    """Start the local stack and leave it running."""
    from deployments.stack import control

    settings = StackSettings()
    stack = control.detached(settings, hospitals={}, progress=_show_event)
    _show_addresses(settings)
    _out.print(f"ready after {stack.start_s:.1f} s; `fedmed down` stops it")


@app.command()
def down() -> None:
    """Stop the local stack."""
    from deployments.stack import control

    control.stop(StackSettings())
    _out.print("stopped")


@app.command()
def status() -> None:
    """Show the local stack's servers, memory and addresses."""
    from deployments.stack import control

    settings = StackSettings()
    state = control.require_running(settings)
    table = Table("server", "process", "healthy after", title=f"{settings.home}: {state.state}")
    for name, service in state.services.items():
        after = service.healthy_after_s
        table.add_row(name, str(service.pid), "" if after is None else f"{after:.1f} s")
    _out.print(table)
    _out.print(f"memory {control.memory_mb(state):.0f} MB (proportional)")
    _show_addresses(settings)


@app.command()
def demo(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds to train.")] = 10,
    # Two would each know the other's update from the sum.
    hospitals: Annotated[int, typer.Option(min=3, max=20, help="Hospitals to run.")] = 3,
    seed: Annotated[int, typer.Option(help="Seed of the deal of rows to hospitals.")] = 0,
) -> None:
    """Train a breast-cancer classifier across hospitals on this machine."""
    from deployments.demo import run_demo

    run_demo(StackSettings(), rounds=rounds, hospitals=hospitals, seed=seed, console=_out)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="Name of a registered model.")],
    rounds: Annotated[
        int | None, typer.Option(help="Rounds to train; the recipe's unless given.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Epsilon to stay under.")] = None,
    delta: Annotated[float | None, typer.Option(help="Delta of epsilon.")] = None,
    noise_shares: Annotated[
        int | None, typer.Option(help="Honest hospitals that share the noise under the sum.")
    ] = None,
    purpose: Annotated[
        str, typer.Option(help="What the model is for, such as breast-cancer-diagnosis.")
    ] = DEFAULT_PURPOSE,
) -> None:
    """Start a training on the running stack and follow it to its end."""
    from deployments.demo import follow
    from deployments.operator import OperatorClient
    from fl.spec import TrainingRequest
    from privacy.settings import PrivacySettings

    asked = {"epsilon": epsilon, "delta": delta, "noise_shares": noise_shares}
    given = {name: value for name, value in asked.items() if value is not None}
    privacy = PrivacySettings().completed(given)
    request = TrainingRequest(model=model, purpose=purpose, rounds=rounds, privacy=privacy)
    with OperatorClient.connect(StackSettings()) as operator:
        started = operator.start_training(request)
        follow(operator, started["training_id"], console=_out)


@model_app.command("add")
def model_add(
    file: Annotated[
        Path,
        typer.Argument(
            help="The model's specification, or a data contract alone; YAML.",
            exists=True,
            dir_okay=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The model's name; a contract's file name unless given.")
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="logistic, mlp, hog-logistic, cnn or resnet-18, with its defaults."),
    ] = None,
    public_test: Annotated[
        Path | None,
        typer.Option(
            help="A file with public rows, on which its trainings are scored too: CSV, Parquet, "
            "npz. The coordinator keeps it.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Register a model; the same name with other content makes a new version."""
    from deployments.operator import OperatorClient

    spec = read_model(file, name=name, architecture=architecture)
    _check_own(spec)
    with OperatorClient.connect(StackSettings()) as operator:
        operator.add_model(spec)
        _out.print(f"registered {spec.name}")
        if public_test is not None:
            kept = operator.put_public_test(spec.name, public_test)
            _out.print(f"public test set {kept['public_test']} of version {kept['version']}")


def _check_own(spec: ModelSpec) -> None:
    """Builds an architecture of somebody's own where it is installed: mistakes show here first."""
    from fl.architecture_spec import Custom
    from fl.errors import ModelError
    from fl.installed import installed_names

    if not isinstance(spec.architecture, Custom):
        return
    if spec.architecture.entry_point not in installed_names():
        _out.print(
            f"not checked: architecture {spec.architecture.entry_point!r} is not installed here; "
            "the coordinator and every hospital need it",
            soft_wrap=True,
        )
        return
    from fl.architectures import build  # loads PyTorch

    try:
        build(spec)
    except ModelError as error:
        raise OperatorError(str(error)) from None


def _show_event(event: Mapping[str, Any]) -> None:
    if event["event"] == "healthy":
        _out.print(f"{event['service']:<10} healthy after {event['seconds']:.1f} s")
    if event["event"] == "warning":
        _out.print(f"warning: {event['text']}", highlight=False, soft_wrap=True)


def _show_addresses(settings: StackSettings) -> None:
    from deployments.stack.prefect_secret import prefect_secret_file

    _out.print(f"Prefect UI  {settings.prefect_ui}", highlight=False)
    if (secret := prefect_secret_file(settings)) is not None:
        _out.print(
            f"            sign in with the line in {secret}", highlight=False, soft_wrap=True
        )
    _out.print(f"MLflow UI   {settings.mlflow_url}", highlight=False)
    _out.print(f"API docs    {settings.api_docs}", highlight=False)


def main() -> None:
    """Runs the command line; a user's mistake is one line and exit code 2."""
    # Into the environment, so that every process of the stack reads the same; what is set wins.
    # A hospital's process began with what it needs of it, and without the rest.
    if not CLEAN.items() <= os.environ.items():
        load_dotenv(".env")
    try:
        sys.exit(app(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except click.ClickException as error:
        print(f"fedmed: {error.format_message()}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except ValidationError as error:
        for problem in error.errors():
            field = ".".join(str(part) for part in problem["loc"]) or error.title
            print(f"fedmed: {field}: {problem['msg']}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except OperatorError as error:
        print(f"fedmed: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


if __name__ == "__main__":
    main()
