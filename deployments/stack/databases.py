"""The three databases of a stack: the project's own, Prefect's and MLflow's."""

from __future__ import annotations

from dataclasses import dataclass, field

from db.embedded import EmbeddedServer, ensure_databases
from db.settings import postgresql_url

_NAMES = ("fedmed", "prefect", "mlflow")


@dataclass(frozen=True, slots=True)
class Databases:
    """URLs for SQLAlchemy, Prefect's with its own driver; they may hold a password."""

    fedmed: str = field(repr=False)
    prefect: str = field(repr=False)
    mlflow: str = field(repr=False)


def embedded_databases(server: EmbeddedServer) -> Databases:
    """Returns the databases of the embedded server, made when they are not there."""
    # What Prefect knows of a run can be told again from the project's own database, which waits for
    # the disk; a round waits for dozens of Prefect's commits.
    ensure_databases(server, _NAMES, asynchronous=("prefect",))
    return Databases(
        fedmed=server.url("fedmed"),
        prefect=server.asyncpg_url("prefect"),
        mlflow=server.url("mlflow"),
    )


def external_databases(url: str) -> Databases:
    """Returns the three databases on a configured PostgreSQL server.

    ``url`` names the project's database; Prefect and MLflow use the databases ``prefect`` and
    ``mlflow`` of the same server, which its administrator has created.

    Raises:
        ValueError: not an address of a PostgreSQL database; the text does not repeat it.
    """
    fedmed = postgresql_url(url)

    def sibling(name: str, driver: str) -> str:
        sibling_url = fedmed.set(database=name, drivername=driver)
        return sibling_url.render_as_string(hide_password=False)

    return Databases(
        fedmed=fedmed.render_as_string(hide_password=False),
        prefect=sibling("prefect", "postgresql+asyncpg"),
        mlflow=sibling("mlflow", "postgresql+psycopg2"),
    )
