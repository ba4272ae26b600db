"""Asks a running ws2mqtt, at the address given, for /readyz and /metrics, for a minute; fails with what it heard."""

import sys
import time
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

root, patience = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
direct = build_opener(ProxyHandler({}))


def asked(path):
    try:
        with direct.open(root + path, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except (OSError, HTTPException) as error:
        return 0, str(error)


until = time.monotonic() + patience
while (found := asked("/readyz"))[0] != 200 and time.monotonic() < until:
    time.sleep(1)
print("/readyz", *found)
status, metrics = asked("/metrics")
told = [line for line in metrics.splitlines() if line.startswith("ws2mqtt_build_info")]
print("/metrics", status, *told)
sys.exit(0 if found[0] == status == 200 and told else 1)
