"""PUBLISH packets on their way into the demo's broker, without what its 3.1.1 side cannot bear.

rumqttd cuts a 3.1.1 subscriber off as soon as a message with MQTT 5 properties reaches it. Payload Format Indicator and
Content Type only describe, so they are taken out; what carries meaning (Response Topic, Correlation Data, user
properties) stays, and with it the limit.
"""

from bridge.wire import variable

_PUBLISH = 3  # MQTT 5, 2.1.2
_FORMAT, _CONTENT_TYPE = 0x01, 0x03  # 2.2.2.2


class Plain:
    """One client's stream. skip: bytes of its first packet that have yet to come, which pass as they are."""

    def __init__(self, skip: int) -> None:
        self._skip, self._kept = skip, b""

    def feed(self, chunk: bytes) -> bytes:
        """The whole packets there are by now, made plain."""
        passed, chunk = chunk[: self._skip], chunk[self._skip :]
        self._skip -= len(passed)
        data, at, out = self._kept + chunk, 0, [passed]
        while (body := _body(data, at)) is not None and body[1] <= len(data):
            start, end = body
            packet = data[at:end]
            out.append(_plainer(packet, start - at) if packet[0] >> 4 == _PUBLISH else packet)
            at = end
        self._kept = data[at:]
        return b"".join(out)


def length(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer (MQTT 5, 1.5.5) and where it ends; None: not complete. A fifth byte ends it anyway."""
    value = 0
    for place in range(5):
        if at + place >= len(data):
            return None
        value |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128:
            break
    return value, at + place + 1


def _body(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet at this place begins and ends."""
    told = length(data, at + 1)
    return told and (told[1], told[1] + told[0])


def _plainer(packet: bytes, start: int) -> bytes:
    at = start + 2 + int.from_bytes(packet[start : start + 2], "big") + (2 if packet[0] & 6 else 0)
    told = length(packet, at)
    if told is None or not _describes_only(packet[told[1] : told[1] + told[0]]):
        return packet
    body = packet[start:at] + b"\0" + packet[told[1] + told[0] :]
    return packet[:1] + variable(len(body)) + body


def _describes_only(properties: bytes) -> bool:
    at = 0
    while at < len(properties):
        if properties[at] == _FORMAT:
            at += 2
        elif properties[at] == _CONTENT_TYPE:
            at += 3 + int.from_bytes(properties[at + 1 : at + 3], "big")
        else:
            return False
    return True
