"""Options of a simulator as options of the command line, by the types of its fields.

A simulator's options are a Struct whose fields are Annotated with a description, which becomes the help text, and with
bounds, which are checked. One field, `faults`, is a Struct of the same kind: `--fault NAME[=VALUE]`, repeatable.
"""

import argparse
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

T = TypeVar("T", bound=Struct)


def add_arguments(parser: argparse.ArgumentParser, options: type[Struct]) -> None:
    """One option per field; `--fault NAME[=VALUE]`, repeatable, for each of the faults."""
    for field in msgspec.structs.fields(options):
        flag, about = f"--{_dashed(field.name)}", _about(field)
        if field.name == "faults":
            faults = field.type.__origin__
            parser.add_argument(
                "--fault",
                action="append",
                default=[],
                type=_fault(faults),
                metavar="NAME[=VALUE]",
                help=_fault_help(about, faults),
            )
        elif field.type.__origin__ is bool:
            parser.add_argument(flag, action="store_true", help=about)
        else:
            default = "" if field.default in (None, "") else f" (default: {field.default})"
            read = _typed(field.type)
            parser.add_argument(flag, default=field.default, type=read, help=about + default, **_values(field))


def from_arguments(args: argparse.Namespace, options: type[T]) -> T:
    """The options that parsed arguments stand for. Raises ValueError where they do not go together."""
    plain = {field: getattr(args, field) for field in options.__struct_fields__ if field != "faults"}
    faults = next(field.type.__origin__ for field in msgspec.structs.fields(options) if field.name == "faults")
    return options(**plain, faults=faults(**dict(args.fault)))


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _about(field: msgspec.structs.FieldInfo) -> str:
    """The description in an annotation; argparse reads % as a format."""
    told = [meta.description for meta in field.type.__metadata__ if meta.description]
    return str(told[-1]).replace("%", "%%")


def _values(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """What argparse shows and allows as value: the members of a Literal, else a word."""
    if get_origin(field.type.__origin__) is Literal:
        return {"choices": get_args(field.type.__origin__)}
    return {"metavar": field.name.rpartition("_")[2].upper()}


def _typed(kind: Any) -> Callable[[str], object]:
    """An argparse type that checks against an annotation and its bounds. kind: any type msgspec knows."""

    def read(text: str) -> object:
        try:
            value: object = msgspec.convert(text, kind, strict=False)
        except msgspec.ValidationError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
        return value

    return read


def _fault(faults: type[Struct]) -> Callable[[str], tuple[str, object]]:
    """`late-reply=3` → ("late_reply", 3.0) · `no-reply` → ("no_reply", True)."""
    known = {_dashed(field.name): field for field in msgspec.structs.fields(faults)}

    def read(text: str) -> tuple[str, object]:
        name, equals, value = text.partition("=")
        if (field := known.get(_dashed(name))) is None:
            raise argparse.ArgumentTypeError(f"unknown fault {name!r}; known: {', '.join(known)}")
        if not equals and field.type.__origin__ is not bool:
            raise argparse.ArgumentTypeError(f"fault {name!r} needs a value: {name}=VALUE ({_about(field)})")
        return field.name, _typed(field.type)(value if equals else "true")

    return read


def _fault_help(about: str, faults: type[Struct]) -> str:
    """Every fault with what it does; `=…` where it takes a value."""
    fields = msgspec.structs.fields(faults)
    takes = {True: "", False: "=…"}
    told = [f"{_dashed(f.name)}{takes[f.type.__origin__ is bool]} ({_about(f)})" for f in fields]
    return f"{about}: {'; '.join(told)}"
