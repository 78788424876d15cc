"""The systemd unit of a hospital: the template beside the code, with this machine's paths.

print(unit_for(settings, home))
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path
from typing import Final

from deployments.errors import OperatorError
from tasks.hospital.site import SiteSettings

TEMPLATE: Final = Path(__file__).parent / "systemd" / "fedmed-hospital.service"
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
# What would end a value, begin an expansion or part a list of paths.
_NOT_IN_A_UNIT: Final = frozenset("\"'\\%$\n\r\t ")


def unit_for(
    settings: SiteSettings, home: Path, *, user: str | None = None, memory_max: str = "4G"
) -> str:
    """Returns the unit's text.

    Args:
        settings: the site.
        home: ``FEDMED_HOME``.
        user: whom it runs as; the caller unless given.
        memory_max: most memory, as systemd takes it.

    Raises:
        OperatorError: a path holds a character that a unit cannot hold, or there is no table.
    """
    if settings.data_path == Path(os.devnull):
        raise OperatorError("say where the table is first: `fedmed hospital check --data-path DIR`")
    python = Path(sys.executable)
    read_only = [settings.data_path, *([settings.ca_file] if settings.ca_file else [])]
    for path in (python, home, *read_only):
        if odd := sorted(_NOT_IN_A_UNIT & set(str(path))):
            raise OperatorError(f"{path} holds {odd[0]!r}, which a unit cannot: move it")
    near_home = (*read_only, home, python, Path(sys.prefix), TEMPLATE.resolve())
    below_homes = any(path.is_relative_to(top) for path in near_home for top in _HOMES)
    return TEMPLATE.read_text().format(
        words="words",
        name=f"fedmed-hospital-{settings.hospital_id}.service",
        hospital_id=settings.hospital_id,
        user=user or pwd.getpwuid(os.geteuid()).pw_name,
        home=home,
        python=python,
        memory_max=memory_max,
        protect_home="read-only" if below_homes else "yes",
        read_only="\n".join(f"ReadOnlyPaths={path}" for path in read_only),
    )
