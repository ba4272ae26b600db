"""What a SmartServer backend is told."""

from collections.abc import Iterator
from typing import Annotated

from bridge.backends.smartserver.names import glob_fault
from bridge.options import BackendOptions, BackfillOptions, Duration, Secret, about, address_fault


class SmartserverOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="smartserver"):
    """A SmartServer IoT, an edge server for building automation."""

    url: Annotated[str, about("of the CMS, https://host; releases up to 2.7: https://host:8443")]
    username: Annotated[str, about("a CMS user that nobody else uses: the platform keeps one subscribe list per login")]
    password: Annotated[Secret, about("of that user")]
    datapoints: Annotated[
        tuple[str, ...], about("globs over dpQualifiers, such as */lon/*/LightSensor/*/nvoLuxLevel; * does not cross /")
    ] = ()
    poll: Annotated[Duration | None, about("every datapoint is read from its device so often; off: only once")] = None
    backfill: Annotated[BackfillOptions, about("how gaps are filled from the platform's data logs")] = BackfillOptions()
    ignore: Annotated[tuple[str, ...], about("event types that are not published, only counted")] = ("time", "load")

    @property
    def exclusive(self) -> tuple[str, ...]:
        """The platform keeps one list of subscribed datapoints per user login (wiki, "IAP/WS Fundamentals")."""
        return "url and username", self.url.rstrip("/").lower(), self.username

    def check(self) -> Iterator[tuple[str, str]]:
        fault = address_fault(self.url, ("https", "http"))
        if not fault and "@" in self.url.partition("://")[2].partition("/")[0]:
            fault = "has user info in it: give username and password instead"
        if not fault and "?" in self.url:
            fault = "has a query in it: write https://host"
        if fault:
            yield "url", fault
        for number, pattern in enumerate(self.datapoints):
            fault = glob_fault(pattern)
            if fault:
                yield f"datapoints[{number}]", fault
