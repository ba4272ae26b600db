"""Calls of the Live REST API: paths below its root, and templates by which the configuration makes commands.

The vendor's pages do not tell the paths and bodies of actions (originate, transfer, do not disturb …), so that an
installation's own knowledge goes into the configuration. Whoever may send commands must not get out of the root:
a path has no `..`, however it is written.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct

from bridge.errors import BadCommand
from bridge.options import about
from bridge.topics import clean

Scalar = str | int | float | bool

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SAFE = "/%:@!$&'()*+,;=-._~{}"  # RFC 3986, 3.3; what is percent-encoded already; placeholders
_TAKEN = ("filter", "live", "reconnect", "pause", "resume")
_EVERYWHERE = ("id", "timeout", "idempotency_key")  # fields of every command


class Action(Struct, frozen=True, forbid_unknown_fields=True):
    """A call of the installation's Live REST API; `{name}` in path and body stands for a field of the command.

    body: JSON, None for none.
    """

    path: Annotated[str, about("relative, below .../communication_manager/rest/live/")]
    method: Annotated[Literal["GET", "POST", "PUT", "DELETE"], about("of the HTTP request")] = "POST"
    body: Annotated[Any, about("any YAML, sent as JSON; {name} alone in a text keeps the field's type")] = None

    @property
    def fields(self) -> tuple[str, ...]:
        """The placeholders, in their order, each once."""
        found = [name for text in (self.path, *_texts(self.body)) for name in _PLACEHOLDER.findall(text)]
        return tuple(dict.fromkeys(found))


class Request(Struct, frozen=True):
    """One call: method, path below the Live REST root (encoded), JSON body or None."""

    method: str
    path: str
    body: bytes | None = None


def path_fault(path: str) -> str | None:
    """What is wrong with a path below the root, and the remedy."""
    if not path or path.startswith(("/", "\\")):
        return "must be relative, such as coreServers/getByName/default/users"
    if "?" in path or "#" in path:
        return "has ? or # in it; only a path is taken"
    if re.search(r"[\x00-\x1f\x7f]", path):
        return "has control characters in it"
    return "must not go up: it has a . or .. level" if _climbs(path) else None


def _climbs(path: str) -> bool:
    """Whether a server may see a `.` or `..` level in it: encoded, doubly encoded, with `\\`, or as `..;x`."""
    decoded = unquote(unquote(path))
    return any(level.partition(";")[0].strip() in (".", "..") for level in re.split(r"[/\\]", decoded))


def encoded(path: str) -> str:
    """A path as it goes out: what is percent-encoded stays so, and so do placeholders."""
    return quote(clean(path), safe=_SAFE)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def faults_of(name: str, action: Action) -> Iterator[tuple[str, str]]:
    """What is wrong with an action, as (key below it, message)."""
    if not _NAME.fullmatch(name):
        yield "", "not a command's name: 1 to 64 of A-Z, a-z, 0-9, _ and -"
    if name in _TAKEN:
        yield "", "is a command already: choose another name"
    plain = _PLACEHOLDER.sub("x", action.path)
    if fault := path_fault(plain):
        yield ".path", fault
    elif "{" in plain or "}" in plain:
        yield ".path", "has a brace that is no {placeholder}: a letter, then letters, digits and _"
    for field in action.fields:
        if field in _EVERYWHERE:
            yield "", f"{{{field}}} is a field that every command has: choose another name"


def fields_struct(name: str, action: Action) -> type[Struct]:
    """The fields of an action's command: its placeholders, each a text, a number or a boolean, all required."""
    ours = {f"field_{number}": field for number, field in enumerate(action.fields)}  # it may be a Python keyword
    fields = [(one, Annotated[Scalar, about(f"fills {{{told}}}")]) for one, told in ours.items()]
    return msgspec.defstruct(f"Action_{name}", fields, rename=ours, frozen=True, forbid_unknown_fields=True)


def checked(action: Action) -> Callable[[Struct], Request]:
    """What makes the request of a command's fields; raises BadCommand that names the field."""
    names, path_template = action.fields, encoded(action.path)

    def request(fields: Struct) -> Request:
        values = {name: getattr(fields, f"field_{number}") for number, name in enumerate(names)}
        path = _PLACEHOLDER.sub(lambda found: _in_path(found[1], values[found[1]]), path_template)
        if _climbs(path):  # by a value beside a dot of the template
            raise BadCommand("the path has a . or .. level", kind="invalid_field", field=names[0])
        body = None if action.body is None else msgspec.json.encode(_filled(action.body, values))
        return Request(action.method, path, body)

    return request


def _in_path(name: str, value: Scalar) -> str:
    """One level, or a part of one, percent-encoded: neither empty nor a way up."""
    text = _text(value)
    if not text or _climbs(text):
        raise BadCommand(f"{name}: must not be empty, nor have a . or .. level", kind="invalid_field", field=name)
    return quote(clean(text), safe="")


def _filled(value: Any, values: Mapping[str, Scalar]) -> Any:
    """A body with its placeholders filled: alone in its text, a value keeps its type; within a text it becomes text."""
    if isinstance(value, str):
        if alone := _PLACEHOLDER.fullmatch(value):
            return values[alone[1]]
        return _PLACEHOLDER.sub(lambda found: _text(values[found[1]]), value)
    if isinstance(value, Mapping):
        return {key: _filled(one, values) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, values) for one in value]
    return value


def _text(value: Scalar) -> str:
    """As JSON writes it, a text as it is."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


class Live(Struct, frozen=True, forbid_unknown_fields=True):
    """Fields of `live`: a path below the Live REST root, read with GET."""

    path: Annotated[str, about("relative, without ..: coreServers/getByName/default/users")]

    def request(self) -> Request:
        """Raises BadCommand."""
        if fault := path_fault(self.path):
            raise BadCommand(f"path: {fault}", kind="invalid_field", field="path")
        return Request("GET", encoded(self.path))
