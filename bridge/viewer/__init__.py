"""ws2mqtt's messages as a person likes to read them: lines.py makes one line of one message, live.py shows them as
they come, screen.py keeps the terminal in order, hand.py and keys.py are for who steers it.

1. What a platform or a stranger wrote is never trusted: no character that is not printable reaches the terminal.
2. Any topic and any bytes give a line; nothing here raises on what was received.
"""

from bridge.viewer.lines import Lines, Look, json_line
from bridge.viewer.live import until_told, watch

__all__ = ["Lines", "Look", "json_line", "until_told", "watch"]
