"""What an iSymphony backend is told, and the addresses that follow from it.

Source: iSymphony developer documentation, WebSocket API (Event), "Connecting" and "Security"; Live API.
"""

from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import field

from bridge.backends.isymphony.actions import Action, faults_of
from bridge.backends.isymphony.filters import ALIASES
from bridge.options import BackendOptions, Secret, about, address_fault

_SERVLET = "/communication_manager"
_EVENTS = f"{_SERVLET}/ws/event"
_LIVE = f"{_SERVLET}/rest/live/"
_PORTS = {"ws": 58080, "wss": 55050}
_FACTORY_PASSWORD = "manag3rpa55word"


class IsymphonyOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="isymphony"):
    """An iSymphony server, a call centre panel for Asterisk."""

    url: Annotated[str, about("ws://host:58080, or wss://host:55050 where the server is secured by SSL")]
    username: Annotated[str, about("a realm user of iSymphony's security.xml, context communication_manager")]
    password: Annotated[Secret, about("of that user")]
    filters: Annotated[
        dict[str, tuple[str, ...]],
        about("which events: property to values; one of the values, all of the properties; left out: all events"),
    ] = field(default_factory=dict)
    actions: Annotated[
        dict[str, Action],
        about("commands of your own, by name: calls of the Live REST API; {name} stands for a field of the command"),
    ] = field(default_factory=dict)

    def check(self) -> Iterator[tuple[str, str]]:
        """An address without user info; names that HTTP Basic can carry; filters that let something pass."""
        if fault := _url_fault(self.url):
            yield "url", fault
        if not self.username.strip() or ":" in self.username:
            yield "username", "must not be blank, nor have a colon in it"
        for prop, values in self.filters.items():
            if not prop:
                yield "filters", "has an empty property name"
            if not values:
                yield f"filters.{prop}", 'names no value: write ["*"] for any, or leave the property out'
        for name, action in self.actions.items():
            for key, message in faults_of(name, action):
                yield f"actions.{name}{key}", message

    def warnings(self) -> Iterator[tuple[str, str]]:
        """The password that everybody knows; the names of the vendor's filter examples, which no event has."""
        if self.password.reveal() == _FACTORY_PASSWORD:
            yield "password", "is the vendor's default, which everybody can read: change it in iSymphony's security.xml"
        for value in self.filters.get("type", ()):
            if value in ALIASES:
                yield "filters.type", f"no event is called {value}; {ALIASES[value]} is sent in its place"

    @property
    def socket_url(self) -> str:
        """Of the event socket."""
        return f"{self._root(self.url.partition('://')[0].lower())}{_EVENTS}"

    @property
    def live_url(self) -> str:
        """The Live REST root, with a slash at its end."""
        return f"{self._root('https' if self.secure else 'http')}{_LIVE}"

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.url.lower().startswith("wss:")

    def _root(self, scheme: str) -> str:
        """Scheme, host, port, and the path in front of the servlet where a proxy put one."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        path = parts.path.rstrip("/").removesuffix(_EVENTS).removesuffix(_SERVLET).rstrip("/")
        return f"{scheme}://{host}:{parts.port or _PORTS[parts.scheme.lower()]}{path}"


def _url_fault(url: str) -> str | None:
    if fault := address_fault(url, ("ws", "wss")):
        return fault
    if "@" in url:
        return "has user info in it: give username and password instead"
    return "has a query in it: leave out what begins with ?" if "?" in url else None
