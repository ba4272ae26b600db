"""A device as the platform tells it, by REST and in UPD:DEVICE (wiki, "Devices")."""

from msgspec import Struct

from bridge.backends.reading import Object
from bridge.backends.smartserver.data import Status
from bridge.backends.smartserver.fields import Fields, Id, WrongShape, key
from bridge.backends.smartserver.names import device_subject


class Device(Struct, frozen=True):
    """key: its id as text · sid, protocol, did: "" where not told."""

    key: str
    sid: str
    protocol: str
    did: str
    data: Status
    extra: Object | None = None

    @property
    def subject(self) -> str:
        """ "" where the device does not say who it is."""
        return device_subject(self.sid, self.protocol, self.did) if self.sid and self.protocol and self.did else ""

    @property
    def id(self) -> Id:
        """As the platform wrote it, or the handle that its URLs take as well."""
        return self.handle if self.data.id is None else self.data.id

    @property
    def handle(self) -> str:
        return f"{self.sid}.{self.did}"


def device(told: object) -> Device:
    """Raises WrongShape; a device has an id, or a segment and a handle."""
    fields = Fields(told)
    id_, sid, did = fields.id("id"), fields.text("scId"), fields.text("DID", "did")
    if id_ is None and not (sid and did):
        raise WrongShape("id")
    protocol, status = fields.text("protocol"), fields.inner("status")
    data = Status(
        status.text("state") or fields.text("state"),
        status.text("health") or fields.text("health"),
        fields.text("name"),
        id_,
        fields.text("category"),
        fields.text("uid"),
        fields.text("deviceTypeName"),
    )
    left = {**(status.left() or {}), **(fields.left() or {})}
    return Device(key(id_), sid or "", protocol or "", did or "", data, left or None)
