"""What a simulated IoT Pro (ThingsBoard) can be told: its size and speed, edition, life of tokens, and its faults.

The fields describe themselves: their descriptions are the help texts of the command line, their bounds its checks.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]
Status = Annotated[int, Meta(ge=0, le=599)]
Seconds = Annotated[float, Meta(ge=0)]


class Faults(Struct, frozen=True, kw_only=True):
    """What goes wrong, on purpose; each is off by its default."""

    login: Annotated[Status, Meta(description="answer every login with this status: 401, 429, 503")] = 0
    renewal: Annotated[Status, Meta(description="answer every renewal of a token with this status")] = 0
    half_login: Annotated[bool, Meta(description="the account has a second factor: half a token, scope and all")] = (
        False
    )
    expired_password: Annotated[bool, Meta(description="the account's password has expired (errorCode 15)")] = False
    refuse_token: Annotated[bool, Meta(description="close sockets that bring a good token with 1007")] = False
    session_limit: Annotated[bool, Meta(description="close new sockets with 1008: the tenant's limit")] = False
    refuse_subscription: Annotated[
        bool, Meta(description="answer subscriptions with errorCode 2, as where a rate is exceeded")
    ] = False
    silent: Annotated[bool, Meta(description="never answer a subscription")] = False
    nameless: Annotated[bool, Meta(description="snapshots do not say names, profiles and labels")] = False
    throttle: Annotated[bool, Meta(description="say errorCode 34 once, then drop all updates, until it is off")] = False
    rest: Annotated[Status, Meta(description="answer REST requests (but logins) with this status: 401, 429, 503")] = 0
    rest_after: Annotated[Count, Meta(description="seconds of Retry-After in a 429")] = 0
    history: Annotated[Status, Meta(description="answer requests for time series with this status")] = 0
    offline_devices: Annotated[bool, Meta(description="devices do not answer an rpc: 504 after its timeout")] = False
    malformed: Annotated[Count, Meta(description="every n-th frame is cut in half: broken JSON")] = 0
    reorder: Annotated[bool, Meta(description="updates overtake each other, two by two")] = False
    close_after: Annotated[Count, Meta(description="close a socket after this many frames, see close-code")] = 0
    close_code: Annotated[int, Meta(ge=1000, le=4999, description="close-after with this code; 1006 aborts TCP")] = 4500


class IotproSimOptions(Struct, frozen=True, kw_only=True):
    """A simulated IoT Pro with a fleet of sea buoys. Same options and seed: the same fleet on the same courses."""

    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port of REST and WebSocket; 0 takes a free one")] = 0
    host: Annotated[str, Meta(description="address to listen on")] = "127.0.0.1"
    username: Annotated[str, Meta(min_length=1, description="the account's name")] = "bridge@example.com"
    password: Annotated[str, Meta(min_length=1, description="the account's password")] = "sea-buoys"
    edition: Annotated[
        Literal["pe", "ce"], Meta(description="pe: Professional Edition; ce: Community, without /api/user/assets")
    ] = "pe"
    role: Annotated[
        Literal["customer", "tenant"], Meta(description="the account: a customer's user, or tenant admin")
    ] = "customer"
    assets: Annotated[Count, Meta(description="number of buoys")] = 12
    rate: Annotated[float, Meta(ge=0, description="buoys that report, per second over all; 0: none by itself")] = 1.0
    token_life: Annotated[Seconds, Meta(description="seconds that an access token lives")] = 9000.0
    refresh_life: Annotated[Seconds, Meta(description="seconds that a refresh token lives")] = 604_800.0
    page_refresh: Annotated[Seconds, Meta(description="seconds between two looks at who is on a dynamic page")] = 60.0
    auth_wait: Annotated[Seconds, Meta(description="seconds until a socket without a login is closed")] = 10.0
    kept: Annotated[int, Meta(ge=1, description="points that are kept of each time series")] = 10_000
    seed: Annotated[int, Meta(description="seed of everything that is random")] = 1
    faults: Annotated[Faults, Meta(description="a fault, NAME or NAME=VALUE, repeatable")] = Faults()
