"""Names of the platform: dpQualifiers, the subjects made of them, globs over them, and what stands in a URL.

A dpQualifier is `{SID}/{protocol}/{DID}/{block}/{index}/{datapoint}`, read from both ends: only the DID in the middle
may hold a `/` itself. In a URL everything but letters, digits and `_.-~` is escaped: an unescaped `*` in a write would
address many datapoints (wiki, "Datapoint Value").
"""

import re
from collections.abc import Callable
from urllib.parse import quote

from bridge.topics import level, text_of

LEVELS = 6  # of a dpQualifier, at least
_WILD = re.compile(r"([*?])")


def parts(qualifier: str) -> tuple[str, str, str, str, str, str] | None:
    """SID, protocol, DID, block, index and datapoint; None for what is no dpQualifier."""
    levels = qualifier.split("/")
    if len(levels) < LEVELS:
        return None
    block, index, datapoint = levels[-3:]
    return levels[0], levels[1], "/".join(levels[2:-3]), block, index, datapoint


def subject(qualifier: str) -> str | None:
    """The subject of a datapoint; None for what is no dpQualifier."""
    told = parts(qualifier)
    if told is None:
        return None
    sid, protocol, did, block, index, datapoint = told
    return f"{device_subject(sid, protocol, did)}/if/{level(block)}/{level(index)}/{level(datapoint)}"


def device_subject(sid: str, protocol: str, did: str) -> str:
    """The subject of a device."""
    return f"{level(sid)}/dev/{level(protocol)}/{level(did)}"


def told_by(subject: str) -> tuple[str, ...]:
    """A subject's names: SID, protocol, DID, and of a datapoint also block, index and datapoint."""
    levels = [text_of(one) for one in subject.split("/")]
    return (levels[0], levels[2], levels[3], *levels[5:])


def escaped(name: str) -> str:
    """As one element of a path, or one value of a query."""
    return quote(name, safe="")


def unspeakable(name: str) -> bool:
    """Whether a name cannot stand in a path: it would be another path, or many."""
    return name in ("", ".", "..") or "*" in name


def is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a dpQualifier fits a pattern: `*` is any text and `?` any sign without `/`, all else is literal."""
    wild = {"*": "[^/]*", "?": "[^/]"}
    compiled = re.compile("".join(wild.get(piece) or re.escape(piece) for piece in _WILD.split(pattern)), re.DOTALL)
    return lambda qualifier: compiled.fullmatch(qualifier) is not None


def device_matcher(pattern: str) -> Callable[[str, str, str], bool]:
    """Whether datapoints of a device (SID, protocol, DID) can fit a pattern at all; others need not be asked for."""
    wanted = pattern.split("/")
    if len(wanted) != LEVELS:  # with a / in the DID
        return lambda sid, protocol, did: True
    fits = matcher("/".join(wanted[:3]))
    return lambda sid, protocol, did: "/" not in did and (not did or fits(f"{sid}/{protocol}/{did}"))


def glob_fault(pattern: str) -> str | None:
    """Why a pattern can fit no dpQualifier, and the remedy."""
    if pattern.count("/") < LEVELS - 1:
        return "fits no datapoint: write sid/protocol/device/block/index/datapoint, * for any text between two /"
    return None
