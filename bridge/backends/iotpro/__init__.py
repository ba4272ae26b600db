"""IoT Pro, which is ThingsBoard under another name: assets and their time series over its WebSocket and REST API."""

from bridge.backends.iotpro.data import SUBJECTS
from bridge.backends.iotpro.options import IotproOptions
from bridge.backends.iotpro.session import COMMANDS, EVENTS, IotproSession
from bridge.backends.session import Platform

PLATFORM = Platform(
    word="iotpro",
    options=IotproOptions,
    session=IotproSession,
    events=EVENTS,
    commands=COMMANDS,
    subjects=SUBJECTS,
)
