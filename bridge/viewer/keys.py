"""Single keys of the terminal, as they are pressed; afterwards it is as it was found, echo and all.

Only where a person is there: the stream is a terminal, and we are in its foreground. Ctrl-C and Ctrl-Z stay signals.
"""

import asyncio
import os
import re
import termios
import tty
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_SEQUENCES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\x1b\[O])")  # arrows and the like; Alt with a key


@contextmanager
def keys(stream: TextIO, press: Callable[[str], None]) -> Iterator[bool]:
    """Calls press for each key. Whether there are any; ends by itself where the terminal is gone."""
    try:
        descriptor = stream.fileno()
        if not os.isatty(descriptor) or os.tcgetpgrp(descriptor) != os.getpgrp():
            raise OSError
        before = termios.tcgetattr(descriptor)
        tty.setcbreak(descriptor)
    except (OSError, ValueError, termios.error):
        yield False
        return
    loop, decoder = asyncio.get_running_loop(), getincrementaldecoder("utf-8")("ignore")

    def read() -> None:
        try:
            data = os.read(descriptor, 1024)
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(descriptor)
        for key in _SEQUENCES.sub("", decoder.decode(data)):
            press(key)

    loop.add_reader(descriptor, read)
    try:
        yield True
    finally:
        loop.remove_reader(descriptor)
        with suppress(termios.error, OSError):
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
