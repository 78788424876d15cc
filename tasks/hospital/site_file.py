"""The site file: what the commands of a hospital need to know of it, so that nobody types it.

    write_site_file(home / "hospitals" / "north", SiteFile(hospital_id="north", …))
    (site,) = sites_below(home / "hospitals")

``fedmed hospital join`` writes it; it lies in the hospital's own folder, for its owner only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from db.disk import replace_file
from fl.invitation import HospitalId

NAME: Final = "site.json"


class SiteFileBroken(Exception):
    """A site file cannot be read; the text names it and says what to do."""


class SiteFile(BaseModel):
    """A hospital's site.

    Attributes:
        hospital_id: the hospital.
        api_url: the coordinator's one address.
        data_path: its table, a CSV file or a folder with one; None until someone has said.
        ca_file: certificates to trust instead of the system's, PEM.
        joined_with: the beginning of the SHA-256 of the code it joined with, to go on after a stop.
        allow_plain_http: its people have accepted that the way there is not encrypted.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    hospital_id: HospitalId
    api_url: str
    data_path: Path | None = None
    ca_file: Path | None = None
    joined_with: str = ""
    allow_plain_http: bool = False

    def given(self, **changes: object) -> Self:
        """Returns the file with those of the changes that are not None."""
        return self.model_copy(update={k: v for k, v in changes.items() if v is not None})


def read_site_file(home: Path) -> SiteFile | None:
    """Returns the site file of a hospital's folder; None when there is none.

    Raises:
        SiteFileBroken: it cannot be read.
    """
    path = home / NAME
    try:
        return SiteFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not what `join` has written"
        raise SiteFileBroken(
            f"{path}: {why}; remove it and run the commands with --hospital-id, --api-url and "
            "--data-path"
        ) from None


def write_site_file(home: Path, content: SiteFile) -> None:
    """Writes or replaces the site file in one step; it is on the disk when this returns."""
    replace_file(home / NAME, content.model_dump_json(indent=2).encode())


def sites_below(hospitals: Path) -> list[SiteFile]:
    """Returns the sites that have a file, by id.

    Raises:
        SiteFileBroken: one cannot be read.
    """
    if not hospitals.is_dir():
        return []
    found = (read_site_file(folder) for folder in sorted(hospitals.iterdir()))
    return [site for site in found if site is not None]
