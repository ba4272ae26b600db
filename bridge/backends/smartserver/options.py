"""What a SmartServer backend is told."""

from collections.abc import Iterator

from bridge.backends.smartserver.names import glob_fault
from bridge.options import BackendOptions, BackfillOptions, Duration, Secret, address_fault


class SmartserverOptions(BackendOptions, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="smartserver"):
    """url: of the CMS, https://host (releases up to 2.7: port 8443) · username: a CMS user that nobody else uses ·
    datapoints: globs over dpQualifiers · poll: every datapoint is read from its device so often; None: only once.
    """

    url: str
    username: str
    password: Secret
    datapoints: tuple[str, ...] = ()
    poll: Duration | None = None
    backfill: BackfillOptions = BackfillOptions()
    ignore: tuple[str, ...] = ("time", "load")

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
