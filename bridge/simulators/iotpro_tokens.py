"""Access and refresh tokens as ThingsBoard makes them: HS512 JWTs, a new session for every pair (JwtTokenFactory)."""

import base64
import hashlib
import hmac
import secrets
import time
import uuid
from typing import Any

import msgspec

SESSION, REFRESH = "CUSTOMER_USER", "REFRESH_TOKEN"


class BadToken(Exception):
    """Why a token is not taken, in the platform's words: expired, or no token at all."""

    def __init__(self, words: str, expired: bool) -> None:
        super().__init__(words)
        self.expired = expired


class Tokens:
    """outdate() is what a logout or a new password does to all tokens there are."""

    def __init__(self, subject: str, authority: str, life: float, refresh_life: float) -> None:
        self._subject, self._authority = subject, authority
        self._life, self._refresh_life = life, refresh_life
        self._key = secrets.token_bytes(64)
        self._dead: set[str] = set()
        self._alive: set[str] = set()
        self._ends: dict[str, float] = {}  # by jti: exact, where `exp` has whole seconds only

    def pair(self) -> dict[str, str]:
        """A new pair."""
        session = str(uuid.uuid4())
        self._alive.add(session)
        return {
            "token": self._made([self._authority], session, self._life),
            "refreshToken": self._made([REFRESH], session, self._refresh_life),
        }

    def half(self) -> dict[str, str]:
        """What an account with a second factor gets first."""
        scope = "PRE_VERIFICATION_TOKEN"
        return {"token": self._made([scope], str(uuid.uuid4()), 300.0), "scope": scope}

    def outdate(self) -> None:
        self._dead |= self._alive
        self._alive.clear()

    def read(self, token: str, scope: str | None = None) -> dict[str, Any]:
        """The claims of a good token. Raises BadToken."""
        try:
            head, payload, signature = token.split(".")
            claims: dict[str, Any] = msgspec.json.decode(_bytes(payload))
        except ValueError:
            raise BadToken("Invalid JWT token: ", False) from None
        if not hmac.compare_digest(_text(self._signature(f"{head}.{payload}")), signature):
            raise BadToken("JWT Token expired", True)
        if time.time() >= self._ends.get(str(claims["jti"]), 0.0):
            raise BadToken("JWT Token expired", True)
        if claims["sessionId"] in self._dead:
            raise BadToken("Token is outdated", True)
        if scope is not None and scope not in claims["scopes"]:
            raise BadToken("Invalid Refresh Token scope", False)
        return claims

    def _made(self, scopes: list[str], session: str, life: float) -> str:
        now, name = time.time(), str(uuid.uuid4())
        self._ends[name] = now + life
        claims = {
            "sub": self._subject,
            "scopes": scopes,
            "sessionId": session,
            "exp": int(now + life) if life >= 60 else now + life,
            "iss": "thingsboard.io",
            "iat": int(now) if life >= 60 else now,
            "jti": name,
        }
        head = f"{_text(msgspec.json.encode({'alg': 'HS512'}))}.{_text(msgspec.json.encode(claims))}"
        return f"{head}.{_text(self._signature(head))}"

    def _signature(self, text: str) -> bytes:
        return hmac.new(self._key, text.encode(), hashlib.sha512).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
