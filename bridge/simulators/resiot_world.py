"""The world behind a simulated ResIOT: devices that measure, gateways that hear them, downlinks that wait. No I/O.

What happens is drawn from one `random.Random(seed)`, so that the same calls in the same order tell the same story.
A class A device listens only after it has spoken (LoRaWAN): the feedback of its downlinks waits for its next uplink.
"""

import math
import random
from collections.abc import Iterator

from msgspec import Struct

from bridge.simulators.resiot_frames import Communication, Downlink, Reception

_CHANNELS = ("868.1", "868.3", "868.5", "867.1", "867.3", "867.5", "867.7", "867.9")  # MHz, EU868
_PLACES = ("roof", "cellar", "hall", "tower", "yard", "garage")
_APPLICATIONS = ("70b3d57ed0001122", "70b3d57ed0003344")
_NETWORK_CONNECTOR = b"id=27".hex()
_DEVICE_CONNECTOR = b"con20".hex()
_DOUBLED = 0.08  # share of uplinks that the platform reports a second time, duplicate="true"
_FOREIGN = 0.2  # share of comm_gwrx turns in which a gateway also hears somebody else's packet


class Gateway(Struct, frozen=True):
    """A gateway: EUI in mixed case (as the samples have it), name, where it stands in degrees."""

    eui: str
    name: str
    latitude: float
    longitude: float


class Device:
    """A LoRaWAN device and what it measures.

    Class A, a climate sensor on port 5: `01` temperature (0.1 °C, int16), `02` humidity (%), `07` battery (mV, uint16).
    Class C, a mains relay on port 2, Cayenne LPP: `01 00` switch, `02 80` power (W, uint16). A downlink switches it:
    last byte 0 off, else on.
    """

    def __init__(self, index: int, class_c: bool, rng: random.Random) -> None:
        self.dev_eui = f"a81758fffe{index + 0x0A0B0C:06x}"
        self.app_eui = _APPLICATIONS[index % len(_APPLICATIONS)]
        self.dev_addr = f"260b{index + 0x1100:04x}"
        self.class_c = class_c
        self.port = 2 if class_c else 5
        self.joined = False
        self.seqno = 0
        self.waiting: list[Communication] = []
        """Feedback of class A downlinks, until the next uplink."""
        self.on = False
        self.battery = rng.randint(3300, 3600)
        self._mean = rng.uniform(14, 24)
        self._phase = rng.uniform(0, 2 * math.pi)
        self._drift = 0.0
        self.distance = rng.uniform(0, 45)  # dB lost on the way to the best gateway

    @property
    def ids(self) -> dict[str, object]:
        """The fields that say who it is."""
        return {"Connector": _DEVICE_CONNECTOR, "AppEui": self.app_eui, "DevEui": self.dev_eui}

    def measure(self, rng: random.Random) -> str:
        """The next payload, hex. A day of temperature takes 96 uplinks; the battery loses 1 mV now and then."""
        self.seqno += 1
        if self.class_c:
            watts = rng.randint(57, 63) if self.on else 0
            return f"0100{self.on:02x}0280{watts:04x}"
        self._drift = max(-2.0, min(2.0, self._drift + rng.uniform(-0.15, 0.15)))
        temperature = self._mean + self._drift + 3 * math.sin(self._phase + self.seqno * 2 * math.pi / 96)
        humidity = round(max(20.0, min(95.0, 120 - 3.2 * temperature + rng.uniform(-1, 1))))
        self.battery -= rng.random() < 0.05
        return f"01{round(temperature * 10) & 0xFFFF:04x}02{humidity:02x}07{self.battery:04x}"


class World:
    """Devices and gateways, and what they make the platform say: lists of communications in their order."""

    def __init__(self, *, devices: int, gateways: int, class_c: float, seed: int, gwrx: bool = False) -> None:
        self._rng = random.Random(seed)
        self._gwrx = gwrx
        self.gateways = tuple(_gateway(index, self._rng) for index in range(gateways))
        shares = [int((index + 1) * class_c + 1e-9) > int(index * class_c + 1e-9) for index in range(devices)]
        made = [Device(index, share, self._rng) for index, share in enumerate(shares)]
        self.devices = {device.dev_eui: device for device in made}
        """By DevEui, lower case. Class C devices are spread evenly: every fourth one for a share of 0.25."""
        self._turns = self._shuffled()

    def _shuffled(self) -> Iterator[Device]:
        """Whose turn it is: everybody once per round, every round in another order."""
        round_ = list(self.devices.values())
        while round_:
            self._rng.shuffle(round_)
            yield from round_

    def alive(self, index: int) -> Communication:
        """The keep-alive of a gateway."""
        body: dict[str, object] = {
            "Connector": _NETWORK_CONNECTOR,
            "AppEui": "",
            "DevEui": "",
            "Port": "",
            "GatewayEUIs": [self.gateways[index].eui],
            "Payload": "",
            "Extra": {},
        }
        return Communication("comm_gwalive", body)

    def uplink(self, dev_eui: str | None = None) -> list[Communication]:
        """A device speaks (None: the next one by turns): join the first time, packets at gateways if wanted, the
        uplink, perhaps a second time as duplicate, then the feedback that waited for it. KeyError: unknown device.
        """
        device = next(self._turns, None) if dev_eui is None else self.devices[dev_eui]
        if device is None:
            return []
        told = [] if device.joined else [_joined(device)]
        device.joined = True
        payload = device.measure(self._rng)
        heard = self._heard(device)
        channel = self._rng.randrange(len(_CHANNELS))
        if self._gwrx:
            told += self._packets(device, heard, channel)
        told.append(_received(device, payload, heard, channel, duplicate=False))
        if self._rng.random() < _DOUBLED:
            told.append(_received(device, payload, heard[-1:], channel, duplicate=True))
        told += device.waiting
        device.waiting = []
        return told

    def _heard(self, device: Device) -> tuple[Reception, ...]:
        """One to four gateways, the best first."""
        count = min(len(self.gateways), 1 + int(self._rng.triangular(0, 4, 0)))
        found = []
        for place, gateway in enumerate(self._rng.sample(self.gateways, count)):
            loss = device.distance + 12 * place + self._rng.uniform(-3, 3)
            rssi, snr = round(-62 - loss), round(max(-19.0, 10.5 - loss / 2.2), 1)
            found.append(Reception(gateway.eui, gateway.name, gateway.latitude, gateway.longitude, rssi, snr))
        return tuple(found)

    def _packets(self, device: Device, heard: tuple[Reception, ...], channel: int) -> Iterator[Communication]:
        """comm_gwrx per gateway; only its meaning and `Mine` are documented, the rest is ours."""
        for reception in heard:
            yield _packet(device.ids, self._rng.randbytes(17).hex(), reception, channel, mine=True)
        if self._rng.random() < _FOREIGN:
            nobody: dict[str, object] = {"Connector": _NETWORK_CONNECTOR, "AppEui": "", "DevEui": ""}
            yield _packet(nobody, self._rng.randbytes(21).hex(), heard[0], channel, mine=False)

    def objection(self, downlink: Downlink) -> str:
        """Why this world cannot carry out a request; "" if it can."""
        device = self.devices.get(downlink.dev_eui.lower())
        if device is None:
            return "device not found"
        if device.app_eui != downlink.app_eui.lower():
            return "device does not belong to this AppEui"
        return ""

    def issue(self, downlink: Downlink, *, error: str = "", acknowledges: bool = True) -> list[Communication]:
        """Carries out a request without objection: comm_tx, and the feedback now (class C) or with the device's
        next uplink (class A). error: what the gateway refuses it with.
        """
        device = self.devices[downlink.dev_eui.lower()]
        gateway = self._rng.choice(self.gateways)
        feedback = list(_feedback(downlink, device, gateway, error, acknowledges))
        if not device.class_c:
            device.waiting += feedback
            return [_issued(downlink, device)]
        if downlink.hex and not error:
            device.on = not downlink.hex.endswith("00")
        return [_issued(downlink, device), *feedback]


def _gateway(index: int, rng: random.Random) -> Gateway:
    name = f"{_PLACES[index % len(_PLACES)]}-{index + 1}"
    latitude, longitude = round(45.55 + rng.uniform(0, 0.1), 6), round(11.5 + rng.uniform(0, 0.1), 6)
    return Gateway(f"0a1B2c3D4e5F{index + 0x60A1:04X}", name, latitude, longitude)


def _joined(device: Device) -> Communication:
    return Communication(
        "comm_join", {**device.ids, "Port": "", "GatewayEUIs": [], "Payload": "", "Extra": {}}, device.dev_addr
    )


def _received(
    device: Device, payload: str, heard: tuple[Reception, ...], channel: int, *, duplicate: bool
) -> Communication:
    body = {
        **device.ids,
        "Port": str(device.port),
        "GatewayEUIs": [reception.gateway for reception in heard],
        "Payload": payload,
        "Extra": {
            "adr": "true",
            "channel": str(channel),
            "duplicate": str(duplicate).lower(),
            "frequency": _CHANNELS[channel],
            "modBW": "125",
            "rssi": str(heard[0].rssi),
            "seqno": str(device.seqno),
            "sf": str(_spreading(heard[0].snr)),
            "snr": f"{heard[0].snr:g}",
        },
    }
    return Communication("comm_rx", body, device.dev_addr, heard)


def _spreading(snr: float) -> int:
    """The spreading factor that ADR would settle on: the weaker the signal, the higher."""
    return min(12, max(7, 7 + math.ceil((2.5 - snr) / 2.5)))


def _packet(ids: dict[str, object], payload: str, heard: Reception, channel: int, *, mine: bool) -> Communication:
    extra = {"channel": str(channel), "frequency": _CHANNELS[channel], "rssi": str(heard.rssi), "snr": f"{heard.snr:g}"}
    body = {**ids, "Port": "", "GatewayEUIs": [heard.gateway], "Payload": payload, "Mine": mine, "Extra": extra}
    return Communication("comm_gwrx", body)


def _issued(downlink: Downlink, device: Device) -> Communication:
    body = {
        **device.ids,
        "Port": str(downlink.port),
        "Payload": downlink.hex,
        "Command": downlink.command,
        "Reference": downlink.reference,
        "Confirmation": downlink.confirm,
        "Extra": {"priority": 0, "window": "BOTH"},
    }
    if downlink.connector:
        body["Connector"] = downlink.connector
    return Communication("comm_tx", body)


def _feedback(
    downlink: Downlink, device: Device, gateway: Gateway, error: str, acknowledges: bool
) -> Iterator[Communication]:
    """The way of a downlink (ResIOT docs, LoRaWAN up/down log; MQTT downlink): only CommType, Reference and Error
    are documented. A refused one ends with the gateway's Error.
    """
    named: dict[str, object] = {"Reference": downlink.reference}
    through: dict[str, object] = {"GatewayEUIs": [gateway.eui]}
    yield Communication("comm_gwtx", {**named, **through})
    yield Communication("comm_txinfo", {**named, **through})
    yield Communication("comm_txsendack", {**named, "Error": error, **through})
    if error:
        return
    yield Communication("comm_txsendconfirm", dict(named))
    if downlink.confirm and acknowledges:
        yield Communication("comm_txconfirm", {**named, "DevEui": device.dev_eui})
