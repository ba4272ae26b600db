"""The topic grammar, both ways.

    <base>/bridge/{state,info,health}                     <base>/<backend>/state
    <base>/<backend>[/<subject…>]/event/<type>            <base>/<backend>/<subject…>/state
    <base>/<backend>[/<subject…>]/command/<name>          …/response/<name>
    <base>/<backend>/dead/<reason>

Any text from a platform becomes one level by percent-encoding of what MQTT or the grammar would misread; decoding is
exact, so no two names share a level. Lone surrogates, which UTF-8 cannot carry, become U+FFFD.
"""

import re
from urllib.parse import unquote

MAX_TOPIC_BYTES = 65_535  # MQTT 5, 1.5.4: a UTF-8 string is at most 65,535 bytes

# Noncharacters (U+FDD0 to U+FDEF, the last two of each plane): brokers may end the connection over them, MQTT 5, 1.5.4.
_NONCHARACTERS = "\ufdd0-\ufdef" + "".join(
    chr(last) for end in range(0xFFFE, 0x110000, 0x10000) for last in (end, end + 1)
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
