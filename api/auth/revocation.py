"""Revoking a token before it expires (RFC 7009).

    revoke(engine, standings, tokens, text, caller="user:ada", now=now)

A hospital's client, or a person with a token, takes back tokens of their own and no others.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.engine import Engine

from api.auth.grants import OAuthError
from api.auth.standing import Standings
from api.auth.tokens import TokenRefused, Tokens
from db.queries import tokens as revocations
from db.session import transaction


def revoke(
    engine: Engine,
    standings: Standings,
    tokens: Tokens,
    text: str,
    *,
    caller: str,
    now: datetime,
) -> None:
    """Has a token refused from now on; one that is refused anyway is left at that.

    Raises:
        OAuthError: the token is another's (section 2.1).
    """
    try:
        token = tokens.verify(text)
    except TokenRefused:
        return
    if token.subject != caller:
        raise OAuthError("unauthorized_client", "the token was not issued to who revokes it")
    with transaction(engine) as session:
        revocations.revoke(session, jti=token.token_id, expires_at=token.expires_at, now=now)
    standings.forget_token(token.token_id)
