"""An alarm as the platform tells it, by REST and (as far as is known) in CRT:ALARM (wiki, "Alarms (REST)")."""

from msgspec import Struct

from bridge.backends.reading import Object
from bridge.backends.smartserver.data import AlarmData
from bridge.backends.smartserver.fields import Fields, WrongShape, key
from bridge.backends.smartserver.moments import moment

_OVER = {"cleared", "inactive", "closed", "normal", "deleted"}


class Alarm(Struct, frozen=True):
    """key: its id as text · active: whether its state says that it is over."""

    key: str
    active: bool
    data: AlarmData
    extra: Object | None = None


def alarm(told: object) -> Alarm:
    """Raises WrongShape; an alarm has at least an id."""
    fields = Fields(told)
    id_ = fields.id("id")
    if id_ is None:
        raise WrongShape("id")
    device = fields.inner("device")
    at = fields.take("timestamp")
    time = moment(at)
    if time is None:
        fields.keep("timestamp", at)
    kind, state = fields.text("type"), fields.text("state")
    data = AlarmData(
        id_,
        fields.text("severity"),
        fields.text("details") or kind,
        time=time,
        type=kind,
        category=fields.text("category"),
        state=state,
        target=fields.text("alarmTargetType"),
        device=device.text("name"),
        device_id=device.id("id"),
    )
    left = {**(fields.left() or {}), **{f"device_{name}": value for name, value in (device.left() or {}).items()}}
    return Alarm(key(id_), (state or "").lower() not in _OVER, data, left or None)
