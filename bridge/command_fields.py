"""A command's payload into its Struct, and what is said to the sender where that does not work."""

import math
import re
from typing import Any

import msgspec

from bridge.errors import BadCommand
from bridge.options import from_text

MAX_PAYLOAD = 256 * 1024
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(missing required|unknown) field `(.*?)`(?: - at `\$\.?([^`]*)`)?$", re.DOTALL)


def identity(fields: dict[str, Any]) -> str | int | None:
    """The sender's id, where it is one."""
    value = fields.get("id")
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None


def _number(text: str) -> int | float:
    """A number with a point or exponent; JSON has one kind of number, so 5.0 is 5."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is out of range")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


_decoder = msgspec.json.Decoder(float_hook=_number)


def fields_of(payload: bytes) -> dict[str, Any]:
    """A command's payload; nothing is `{}`. Raises BadCommand."""
    if len(payload) > MAX_PAYLOAD:
        raise BadCommand(f"the payload has {len(payload)} bytes; at most {MAX_PAYLOAD} are taken", kind="too_large")
    if not payload:
        return {}
    try:
        value = _decoder.decode(payload)
    except UnicodeDecodeError:
        raise BadCommand("the payload is not UTF-8", kind="invalid_json") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadCommand(f"the payload is not JSON: {error}", kind="invalid_json") from None
    if not isinstance(value, dict):
        raise BadCommand("the payload is not a JSON object: write {…}", kind="invalid_json")
    return value


def converted(fields: dict[str, Any], kind: type[Any]) -> Any:
    """The fields as the command's Struct. Raises BadCommand that names the field and shows a wrong number."""
    try:
        return msgspec.convert(fields, kind, dec_hook=from_text)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _invalid(str(error), fields, kind) from None


def _invalid(text: str, fields: dict[str, Any], kind: type[Any]) -> BadCommand:
    if (named := _FIELD.search(text)) is not None:
        missing, name = named[1] == "missing required", ".".join(filter(None, (named[3], named[2])))
        known = ", ".join(msgspec_field.encode_name for msgspec_field in msgspec.structs.fields(kind))
        unknown = "is not known there" if named[3] else f"is not a field of this command; there are {known or 'none'}"
        remedy = "is required" if missing else unknown
        return BadCommand(f"{name} {remedy}", kind="missing_field" if missing else "unknown_field", field=name)
    found = _PATH.match(text)
    path = (found["path"] or "") if found else ""
    what = found["what"] if found else text
    value = fields.get(path.partition(".")[0].partition("[")[0])
    shown = value if isinstance(value, int | float) else None
    said = f", not {value!r}" if shown is not None else ""
    return BadCommand(f"{path}: {what}{said}".lstrip(": "), kind="invalid_field", field=path or None, value=shown)
