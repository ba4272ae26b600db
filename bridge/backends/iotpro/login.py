"""Who we are to the platform: a pair of tokens, renewed before it ends (ThingsBoard, JwtTokenFactory, AuthController).

    begin ──▶ asking ──pair──▶ holding ──min(5m, 40 %) before its end──▶ renewing ──pair──▶ holding
                 └─no──▶ asked again later, by the crossing's slow schedule    └─anything else──▶ asking

Its life is measured by our own monotonic clock from when it came: the clocks of two machines differ. What is not a
whole pair (a second factor is asked) is never used.
"""

import base64
import binascii
from typing import Literal

import msgspec
from msgspec import Struct

from bridge.backends.iotpro import asks
from bridge.backends.iotpro.words import retry_after, words
from bridge.backends.session import Again, Answer, Call
from bridge.model import Instant
from bridge.options import Secret

_MARGIN_S, _SHARE = 300.0, 0.4
_LIFE_S = 900.0  # of a token that does not tell
_SHORTEST_S = 0.5
_HALF = {
    "PRE_VERIFICATION_TOKEN": "the account asks for a second factor: use a service account without it",
    "MFA_CONFIGURATION_TOKEN": "the account must set up a second factor first: use a service account without it",
}
_EXPIRED_PASSWORD, _BAD_PASSWORD = 15, 45  # errorCode


class _Pair(Struct):
    token: str
    refreshToken: str | None = None  # noqa: N815 - the platform's name
    scope: str | None = None


class _Claims(Struct):
    exp: float | None = None
    iat: float | None = None


class _Fault(Struct):
    errorCode: int | None = None  # noqa: N815


class Outcome(Struct, frozen=True):
    """How an attempt ended: with a pair, told no, or not reached; "renewal": it failed, a login is to follow.

    after: seconds to wait, where the platform said so.
    """

    outcome: Literal["ok", "refused", "failed", "renewal"]
    error: str = ""
    after: float | None = None


class Tokens:
    """url: of the platform · token: to be shown by doors only; None: there is none."""

    def __init__(self, url: str, username: str, password: Secret) -> None:
        self._url, self._username, self._password = url.rstrip("/"), username, password
        self._calls: Literal["", "login", "renew"] = ""
        self._number = 0
        self._refresh: Secret | None = None
        self.token: Secret | None = None
        self.bearer: Secret | None = None
        self.renew_at: float | None = None  # Instant.mono
        self._ends = 0.0

    @property
    def asking(self) -> bool:
        """Whether a login or renewal is under way, or planned."""
        return bool(self._calls)

    def good(self, now: Instant) -> bool:
        """Whether there is a token that has not ended."""
        return self.token is not None and now.mono < self._ends

    def login(self, again: Again | None = None, after: float | None = None) -> Call:
        """With the password."""
        self._calls, self._refresh, self.renew_at = "login", None, None
        body: dict[str, str | Secret] = {"username": self._username, "password": self._password}
        return self._call(asks.LOGIN, body, again, after)

    def renew(self) -> Call:
        """With the refresh token; without one, with the password."""
        if self._refresh is None:
            return self.login()
        self._calls, self.renew_at = "renew", None
        return self._call(asks.RENEW, {"refreshToken": self._refresh})

    def _call(
        self, path: str, body: dict[str, str | Secret], again: Again | None = None, after: float | None = None
    ) -> Call:
        self._number += 1
        return Call(f"login-{self._number}", "POST", f"{self._url}{path}", body=body, again=again, after=after or 0.0)

    def mine(self, call: str) -> bool:
        return call.startswith("login-")

    def answered(self, call: str, answer: Answer, now: Instant) -> Outcome | None:
        """None: an old one."""
        if call != f"login-{self._number}" or not self._calls:
            return None
        calls, self._calls = self._calls, ""
        outcome = self._read(answer, now)
        return Outcome("renewal") if calls == "renew" and outcome.outcome != "ok" else outcome

    def _read(self, answer: Answer, now: Instant) -> Outcome:
        if answer.status == 200:
            return self._taken(answer.body, now)
        if answer.status in (401, 403, 429):
            return Outcome("refused", _why_not(answer), retry_after(answer))
        return Outcome("failed", f"login: {words(answer)}", retry_after(answer))

    def _taken(self, body: bytes, now: Instant) -> Outcome:
        try:
            pair = msgspec.json.decode(body, type=_Pair)
        except (ValueError, RecursionError):
            return Outcome("failed", "login: the platform's answer holds no token: is url the address of IoT Pro?")
        if pair.scope in _HALF:
            return Outcome("refused", _HALF[pair.scope])
        if not pair.token or not pair.refreshToken:
            return Outcome("refused", f"the platform gave only half a login ({pair.scope or 'no refresh token'})")
        life = _life(pair.token)
        self.token, self.bearer = Secret(pair.token), Secret(f"Bearer {pair.token}")
        self._refresh = Secret(pair.refreshToken)
        self._ends = now.mono + life
        self.renew_at = now.mono + max(_SHORTEST_S, life - min(_MARGIN_S, _SHARE * life))
        return Outcome("ok")

    def redact(self, text: str) -> str:
        """The text without our tokens, should the platform say them back to us."""
        for secret in (self.token, self._refresh):
            if secret is not None:
                text = text.replace(secret.reveal(), "…")
        return text


def _life(token: str) -> float:
    """Seconds from `iat` to `exp` of a JWT (RFC 7519); only they are read, nothing is verified: it is not for us."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Claims)
    except (IndexError, ValueError, RecursionError, binascii.Error):
        return _LIFE_S
    if claims.exp is None or claims.iat is None or not 0 < claims.exp - claims.iat < 1e9:
        return _LIFE_S
    return claims.exp - claims.iat


def _why_not(answer: Answer) -> str:
    try:
        code = msgspec.json.decode(answer.body, type=_Fault).errorCode
    except (ValueError, RecursionError):
        code = None
    said = words(answer)
    if code == _EXPIRED_PASSWORD:
        return f"{said}: the account's password has expired, set a new one on the platform"
    if code == _BAD_PASSWORD:
        return f"{said}: the account's password no longer fits the platform's rules, set a new one there"
    if answer.status == 429:
        return f"login: {said}"
    return f"the platform refused the login ({said}): check username and password"
