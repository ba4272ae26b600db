"""The part of the chart's values.schema.json that is the configuration's: made of `ws2mqtt schema`, the rest stays.

`python -m tests.chart.values_schema` writes it. Helm 3 and 4 bring different validators; draft 7 is what both know, and
all references stay within the file. What the chart itself has to know is stricter here than in the program: a port that
probes can ask, and a time to end that a pod can be given. A secret is no number: the program takes it as it is written,
but of 0123 or 1e3 Helm has only the value left.
"""

import json
from pathlib import Path
from typing import Any

from bridge.config.schema import Schema, schema

FILE = Path(__file__).parents[2] / "helm" / "ws2mqtt" / "values.schema.json"
_LISTEN = r"^(0\.0\.0\.0|\[::\]):[0-9]{1,5}$"


def made(text: str) -> str:
    """The file's text with the configuration's part made anew."""
    whole = json.loads(text)
    whole["definitions"]["config"] = _moved(_stricter(schema()))
    return json.dumps(whole, indent=2) + "\n"


def _stricter(config: Schema) -> Schema:
    kinds = config["$defs"]
    listen = kinds["HttpOptions"]["properties"]["listen"]
    listen["description"] += ". In a pod: 0.0.0.0 or [::], since the probes come from outside"
    listen["anyOf"] = [{"type": "string", "pattern": _LISTEN}, {"$ref": "#/$defs/Off"}]
    kinds["HttpOptions"] |= {"type": "object", "required": ["listen"]}
    grace = config["properties"]["shutdown_grace"]
    grace["anyOf"] = [one for one in grace["anyOf"] if one != {"$ref": "#/$defs/Variable"}]
    for kind in kinds.values():
        for secret in [one for one in kind.get("properties", {}).values() if one.get("writeOnly")]:
            del secret["anyOf"]
            secret["type"] = ["string", "null"]
    del config["$schema"]
    return config | {"type": "object", "required": ["http"]}


def _moved(tree: Any) -> Any:
    """The same with its definitions where they are in the chart's file."""
    if isinstance(tree, list):
        return [_moved(one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    moved = {("definitions" if key == "$defs" else key): _moved(one) for key, one in tree.items() if key != "$ref"}
    if isinstance(ref := tree.get("$ref"), str):
        moved["$ref"] = ref.replace("#/$defs/", "#/definitions/config/definitions/")
    return moved


if __name__ == "__main__":
    FILE.write_text(made(FILE.read_text()))
