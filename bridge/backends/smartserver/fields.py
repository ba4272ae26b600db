"""One JSON object's fields, taken one by one; what nobody takes is left for `extra`, under the platform's own names.

Ids come as numbers or as text, so they are compared as text (`key`). A known field of a wrong JSON type is WrongShape.
"""

from typing import Any

from bridge.backends.reading import Object

Id = str | int


class WrongShape(Exception):
    """What was told has another shape; the name of the field."""


def key(told: object) -> str:
    """An id as text, "" for what is none."""
    if isinstance(told, str):
        return told
    return str(told) if isinstance(told, int) and not isinstance(told, bool) and abs(told) < 2**64 else ""


class Fields:
    """The fields of one object."""

    __slots__ = ("_left",)

    def __init__(self, told: object) -> None:
        if not isinstance(told, dict):
            raise WrongShape("an object is expected")
        self._left: Object = dict(told)

    def take(self, *names: str) -> Any:
        """The first of these that says something, else None."""
        found = None
        for name in names:
            value = self._left.pop(name, None)
            if found is None:
                found = value
            elif value is not None and value != found:
                self._left[name] = value
        return found

    def text(self, *names: str) -> str | None:
        """A text, or a number written as one."""
        value = self.take(*names)
        if value is None or isinstance(value, str):
            return value or None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return key(value) or f"{value:g}"
        raise WrongShape(names[0])

    def id(self, *names: str) -> Id | None:
        """A number or a text, as it was told."""
        value = self.take(*names)
        if value is None or key(value):
            return value if value is None or isinstance(value, str | int) else None
        if value == "":
            return None
        raise WrongShape(names[0])

    def peek(self, name: str) -> Any:
        return self._left.get(name)

    def inner(self, name: str) -> "Fields":
        """The object under this name, of which nobody takes what is left; an empty one where there is none."""
        value = self._left.get(name)
        if not isinstance(value, dict):
            return Fields({})
        del self._left[name]
        return Fields(value)

    def keep(self, name: str, value: object) -> None:
        """For `extra`."""
        self._left[name] = value

    def drop(self, *names: str) -> None:
        """What is told elsewhere."""
        for name in names:
            self._left.pop(name, None)

    def left(self) -> Object | None:
        """What nobody took; what says nothing is left out."""
        return {name: value for name, value in self._left.items() if value not in (None, "", [], {})} or None
