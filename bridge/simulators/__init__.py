"""A real server per platform, for the demo, for the tests and for whoever has no such platform at hand.

The service never imports these; they import nothing of it.
"""

import argparse
from typing import Protocol, Self

from bridge.simulators.iotpro import IotproSimulator
from bridge.simulators.isymphony import IsymphonySimulator
from bridge.simulators.resiot import ResiotSimulator
from bridge.simulators.smartserver import SmartserverSimulator


class Simulator(Protocol):
    """What every simulator class has: `async with` starts and stops it, `url` is what a client connects to.

    from_arguments raises ValueError for options that do not go together; `__aenter__` raises OSError.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None: ...

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> Self: ...

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...

    async def serve_forever(self) -> None: ...


SIMULATORS: dict[str, type[Simulator]] = {
    "resiot": ResiotSimulator,
    "iotpro": IotproSimulator,
    "smartserver": SmartserverSimulator,
    "isymphony": IsymphonySimulator,
}
"""Platform word, as in `type:` of a backend → its simulator class."""
