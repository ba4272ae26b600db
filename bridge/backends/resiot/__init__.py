"""ResIOT, a LoRaWAN network server: its Websocket Server pushes one JSON text per communication and takes downlinks."""

from bridge.backends.resiot.data import SUBJECTS
from bridge.backends.resiot.options import ResiotOptions
from bridge.backends.resiot.session import COMMANDS, EVENTS, ResiotSession
from bridge.backends.session import Platform

PLATFORM = Platform(
    word="resiot",
    options=ResiotOptions,
    session=ResiotSession,
    events=EVENTS,
    commands=COMMANDS,
    subjects=SUBJECTS,
)
