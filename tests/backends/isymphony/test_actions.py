"""Calls made of templates and fields; paths that would leave the Live REST root."""

from typing import Any

import msgspec
import pytest

from bridge.backends.isymphony.actions import (
    Action,
    Live,
    Request,
    checked,
    encoded,
    faults_of,
    fields_struct,
    path_fault,
)
from bridge.errors import BadCommand

BASE = "coreServers/getByName/{server}/extensions"


def made(action: Action, **fields: Any) -> Request:
    return checked(action)(msgspec.convert(fields, fields_struct("x", action)))


@pytest.mark.parametrize(
    ("action", "fields", "request_"),
    [
        (Action(path=f"{BASE}/{{n}}"), {"server": "a", "n": "7001"},
         Request("POST", "coreServers/getByName/a/extensions/7001")),
        (Action(path="x/{n}"), {"n": "a/b?c#d%e f+ü"}, Request("POST", "x/a%2Fb%3Fc%23d%25e%20f%2B%C3%BC")),
        (Action(path="x/{n}-{n}"), {"n": 7}, Request("POST", "x/7-7")),
        (Action(path="x/{n}"), {"n": True}, Request("POST", "x/true")),
        (Action(path="x y/ü"), {}, Request("POST", "x%20y/%C3%BC")),
        (Action(path="x", method="DELETE"), {}, Request("DELETE", "x")),
        (Action(path="x", body={}), {}, Request("POST", "x", b"{}")),
        (Action(path="x", body={"n": "{n}"}), {"n": "007"}, Request("POST", "x", b'{"n":"007"}')),
        (Action(path="x", body={"n": "{n}"}), {"n": 7}, Request("POST", "x", b'{"n":7}')),
        (Action(path="x", body=["{n}", {"a": "to {n}!", "b": [None, 1, True]}]), {"n": 1.5},
         Request("POST", "x", b'[1.5,{"a":"to 1.5!","b":[null,1,true]}]')),
        (Action(path="x", body={"t": "{a}{b} {} {1}"}), {"a": "{b}", "b": "%"},
         Request("POST", "x", b'{"t":"{b}% {} {1}"}')),
        (Action(path="x/{from}", body={"class": "{class}"}), {"from": "1", "class": False},
         Request("POST", "x/1", b'{"class":false}')),
    ],
)  # fmt: skip
def test_requests(action: Action, fields: dict[str, Any], request_: Request) -> None:
    assert made(action, **fields) == request_


@pytest.mark.parametrize("value", ["", ".", "..", "../x", "a/../b", "%2e%2e", "..;a", " .. ", "..\\x"])
def test_a_field_in_a_path_is_no_way_up(value: str) -> None:
    with pytest.raises(BadCommand) as bad:
        made(Action(path="x/{n}"), n=value)
    assert (bad.value.code, bad.value.field) == (400, "n")


def test_nor_is_it_together_with_the_template() -> None:
    with pytest.raises(BadCommand):
        made(Action(path="x/.{n}"), n=";a")


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("", None, ".path"),
        ("/x", None, ".path"),
        ("x/../y", None, ".path"),
        ("x?y={z}", None, ".path"),
        ("x/{", None, ".path"),
        ("x/{a b}", None, ".path"),
        ("x/{id}", None, ""),
        ("x", {"timeout": "{timeout}"}, ""),
    ],
)
def test_templates_that_cannot_be(path: str, body: Any, where: str) -> None:
    assert [key for key, _ in faults_of("x", Action(path=path, body=body))] == [where]


@pytest.mark.parametrize("name", ["filter", "live", "pause", "a/b", "", "ü", "x" * 65])
def test_names_that_cannot_be(name: str) -> None:
    assert [key for key, _ in faults_of(name, Action(path="x"))] == [""]


def test_the_contents_of_a_template_that_can_be() -> None:
    assert not list(faults_of("x", Action(path=f"{BASE}/{{extension}}/originate", body={"number": "{number}", "n": 1})))


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "a/..",
        "./a",
        "a/./b",
        "%2E%2E/a",
        "%252e%252e/a",
        "a%2f..%2fb",
        "a\\..\\b",
        "..;jsessionid=1/a",
        "a\nb",
        "a\x7f",
    ],
)
def test_paths_that_would_leave_the_root(path: str) -> None:
    assert path_fault(path)
    with pytest.raises(BadCommand):
        Live(path).request()


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("coreServers", "coreServers"),
        ("coreServers/getByName/a b/users", "coreServers/getByName/a%20b/users"),
        ("x/%2B49", "x/%2B49"),
        ("x/..y/z..", "x/..y/z.."),
        ("http://elsewhere/x", "http://elsewhere/x"),  # behind the root it is but a name
        ("\ud800", "%EF%BF%BD"),
    ],
)
def test_paths_below_the_root(path: str, sent: str) -> None:
    assert Live(path).request() == Request("GET", sent)
    assert encoded(path) == sent
