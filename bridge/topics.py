"""The topic grammar, both ways.

    <base>/bridge/{state,info,health}                     <base>/<backend>/state
    <base>/<backend>[/<subject…>]/event/<type>            <base>/<backend>/<subject…>/state
    <base>/<backend>[/<subject…>]/command/<name>          …/response/<name>
    <base>/<backend>/dead/<reason>

Any text from a platform becomes one level by percent-encoding of what MQTT or the grammar would misread; decoding is
exact, so no two names share a level. Lone surrogates, which UTF-8 cannot carry, become U+FFFD. Unicode's noncharacters
are encoded, too: a broker may end the connection for one (MQTT 5, 1.5.4), as Mosquitto does, and that event would come
first on the next connection, and on all after it.
"""

import re
from urllib.parse import unquote

MAX_TOPIC_BYTES = 65_535  # MQTT 5, 1.5.4: a UTF-8 string is at most 65,535 bytes

_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane | 0xFFFE)}{chr(plane | 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_RESERVED = re.compile(rf"[%+#/\x00-\x1f\x7f-\x9f{_NONCHARACTERS}]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def level(text: str) -> str:
    """One topic level for any text: `a/b` → `a%2Fb`, the empty text → `%`."""
    if text.isalnum() and text.isascii():
        return text
    if not text:
        return "%"
    return _RESERVED.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), clean(text))


def text_of(level: str) -> str:
    """The text that `level` was made of."""
    return "" if level == "%" else unquote(level)


def join(*parts: str) -> str:
    """Levels joined, empty ones (no subject) left out."""
    return "/".join(part for part in parts if part)


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic fits a pattern of levels, of which `+` stands for any one."""
    wanted, levels = pattern.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))


def too_long(topic: str) -> bool:
    """Whether MQTT cannot carry this topic."""
    return len(topic) > MAX_TOPIC_BYTES // 4 and len(topic.encode()) > MAX_TOPIC_BYTES
