"""ws2mqtt: WebSocket events of IoT and telephony platforms, as topic-structured MQTT messages."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ws2mqtt")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"
