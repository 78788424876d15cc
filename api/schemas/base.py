"""What the bodies that are taken and the views that are returned have in common."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

# PostgreSQL's text holds no zero character; the others would break a line of a log or a table.
Printable: Final = r"^[^\x00-\x1f\x7f]*$"
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Body(BaseModel):
    """What is taken: nothing that is not named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class View(BaseModel):
    """What is returned."""

    # "model_…" names are plain words here.
    model_config = ConfigDict(frozen=True, protected_namespaces=())
