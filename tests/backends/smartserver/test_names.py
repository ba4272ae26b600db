"""Names, globs and moments of the platform."""

import pytest

from bridge.backends.smartserver import names
from bridge.backends.smartserver.moments import moment
from bridge.backends.smartserver.options import SmartserverOptions
from bridge.options import Secret

SUBJECTS = [
    ("17qz7ab/lon/4/LightSensor/0/nvoLuxLevel", "17qz7ab/dev/lon/4/if/LightSensor/0/nvoLuxLevel"),
    ("17qz7ab/modbus/2.1/Digital Input/0/nvoValue", "17qz7ab/dev/modbus/2.1/if/Digital Input/0/nvoValue"),
    ("s/lon/4/Lamp/0/nviLamp[1]", "s/dev/lon/4/if/Lamp/0/nviLamp[1]"),
    ("s/iox.409e21/a/b/c/Dio/0/in", "s/dev/iox.409e21/a%2Fb%2Fc/if/Dio/0/in"),
    ("s/lon/4//0/+#", "s/dev/lon/4/if/%/0/%2B%23"),
    ("lon/4/Lamp/0/x", None),
    ("", None),
]


@pytest.mark.parametrize(("qualifier", "subject"), SUBJECTS)
def test_a_qualifier_is_a_subject_and_back(qualifier: str, subject: str | None) -> None:
    assert names.subject(qualifier) == subject
    if subject is not None:
        assert "/".join(names.told_by(subject)) == qualifier


@pytest.mark.parametrize(
    ("pattern", "qualifier", "fits"),
    [
        ("*/lon/*/LightSensor/*/nvoLuxLevel", "17qz7ab/lon/4/LightSensor/0/nvoLuxLevel", True),
        ("*/lon/*/*/*/*", "17qz7ab/modbus/4/LightSensor/0/nvoLuxLevel", False),
        ("*/*/*/*/*/*", "s/lon/a/b/Dio/0/in", False),
        ("*/*/*/*/*/*/*", "s/lon/a/b/Dio/0/in", True),
        ("*/*/*/*/*/nviLamp[1]", "s/lon/4/Lamp/0/nviLamp[1]", True),
        ("*/*/*/*/*/nviLamp[12]", "s/lon/4/Lamp/0/nviLamp1", False),
        ("*/*/*/*/?/nvo*", "s/lon/4/Lamp/0/nvoX\n", True),
        ("*/*/*/*/?/*", "s/lon/4/Lamp/10/nvoX", False),
        ("s/lon/4/Lamp/0/x", "s/lon/4/Lamp/0/x", True),
        ("s/lon/4/Lamp/0/X", "s/lon/4/Lamp/0/x", False),
        ("s/lon/4/L.mp/0/x", "s/lon/4/Lamp/0/x", False),
    ],
)
def test_globs(pattern: str, qualifier: str, fits: bool) -> None:
    assert names.matcher(pattern)(qualifier) is fits
    told = names.parts(qualifier)
    assert told is not None
    assert names.device_matcher(pattern)(*told[:3]) or not fits


@pytest.mark.parametrize(
    ("text", "zone", "told"),
    [
        ("2025-03-02T09:15:00.412907+01:00[Europe/Berlin]", "", "2025-03-02T08:15:00.412907Z"),
        ("2025-03-02T09:15:00.412+01:00[Europe/Berlin]", "", "2025-03-02T08:15:00.412000Z"),
        ("2025-03-02T08:15:00.412Z[UTC]", "", "2025-03-02T08:15:00.412000Z"),
        ("2025-03-02T08:15:00.412Z", "", "2025-03-02T08:15:00.412000Z"),
        ("2025-03-02T08:15:00.123456789Z", "", "2025-03-02T08:15:00.123456Z"),
        ("2025-03-02T08:15Z", "", "2025-03-02T08:15:00.000000Z"),
        ("2025-03-02T09:15+01:00[Europe/Berlin]", "", "2025-03-02T08:15:00.000000Z"),
        ("2025-03-02T09:15:00+0100", "", "2025-03-02T08:15:00.000000Z"),
        ("2025-03-02T09:15:00+01", "", "2025-03-02T08:15:00.000000Z"),
        ("2025-03-02 09:15:00.412 Europe/Berlin", "", "2025-03-02T08:15:00.412000Z"),
        ("2025-07-02 09:15:00.412 Europe/Berlin", "", "2025-07-02T07:15:00.412000Z"),
        ("2025-03-02T09:15:00[Europe/Berlin]", "", "2025-03-02T08:15:00.000000Z"),
        ("2025-03-02 08:15:00.412 UTC", "", "2025-03-02T08:15:00.412000Z"),
        ("2025-03-02T08:15:00.412", "UTC", "2025-03-02T08:15:00.412000Z"),
        ("2025-03-02T08:15:00.412", "", None),
        ("2025-03-02 08:15:00 Nowhere/At/All", "", None),
        ("2025-03-02 08:15:00 ../../etc/passwd", "", None),
        ("2025-02-30T08:15:00Z", "", None),
        ("0001-01-01T00:00:00Z", "", None),
        ("9999-12-31T23:59:59-23:59", "", None),
        ("yesterday", "UTC", None),
        ("", "UTC", None),
        (1740903300412, "UTC", None),
        (None, "UTC", None),
    ],
)
def test_moments_in_all_documented_forms(text: object, zone: str, told: str | None) -> None:
    assert moment(text, zone) == told


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({}, []),
        ({"url": "http://h:8443/cms"}, []),
        ({"url": "wss://h"}, ["url"]),
        ({"url": "https://me:pw@h"}, ["url"]),
        ({"url": "https://h/?a=1"}, ["url"]),
        ({"datapoints": ("*/*/*/*/*/*", "a/b/c/d/e/f/g")}, []),
        ({"datapoints": ("*/*/*/*/*/*", "*", "nvoLux*")}, ["datapoints[1]", "datapoints[2]"]),
    ],
)
def test_what_is_wrong_with_options(fields: dict[str, object], faults: list[str]) -> None:
    given: dict[str, object] = {"url": "https://h", "username": "u", "password": Secret("p"), **fields}
    assert [path for path, _ in SmartserverOptions(**given).check()] == faults  # type: ignore[arg-type]


def test_one_user_of_one_platform_is_for_one_backend() -> None:
    def made(url: str, username: str) -> object:
        return SmartserverOptions(url=url, username=username, password=Secret("p")).exclusive

    assert made("https://H/", "u") == made("https://h", "u")
    assert made("https://h", "u") != made("https://h", "v")
    assert made("https://h", "u") != made("https://i", "u")
