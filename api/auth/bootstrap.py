"""What the first start makes: the user ``operator`` with a random password.

It lies in the secrets directory, beside the signing key (`api.auth.key_ring`). The password is
written before the user exists, so that a start which is interrupted, or runs twice at a time, never
leaves a user whose password nobody has.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from sqlalchemy.engine import Engine

from api.auth import secret_files
from api.auth.passwords import Passwords, new_secret
from db.errors import AlreadyExists, NotFound
from db.queries import users
from db.session import transaction

OPERATOR: Final = "operator"
OPERATOR_FILE: Final = "operator.json"

_log = logging.getLogger(__name__)


def ensure_operator(
    engine: Engine, directory: Path, *, passwords: Passwords, token_url: str
) -> None:
    """Adds the user ``operator`` when there is none, and leaves its password in ``operator.json``.

    The file holds username, password and token_url; once someone has moved it away it is not
    written again.

    Raises:
        SecretExposed: the file or its directory is open to others.
    """
    path = directory / OPERATOR_FILE
    if not _operator_exists(engine):
        first = {"username": OPERATOR, "password": new_secret(), "token_url": token_url}
        stored = json.loads(secret_files.read_or_create(path, lambda: _encode(first)))
        try:
            with transaction(engine) as session:
                users.add_user(
                    session,
                    username=OPERATOR,
                    password_hash=passwords.hash(stored["password"]),
                    role=OPERATOR,
                )
        except AlreadyExists:
            pass  # another process was first, with the password of the same file
        else:
            _log.warning("made the user %s; its password is in %s", OPERATOR, path)
    if path.exists():
        stored = json.loads(secret_files.read(path))
        if stored["token_url"] != token_url:
            secret_files.replace(path, _encode({**stored, "token_url": token_url}))


def _operator_exists(engine: Engine) -> bool:
    try:
        with transaction(engine) as session:
            users.get_user(session, OPERATOR)
    except NotFound:
        return False
    return True


def _encode(content: dict[str, str]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
