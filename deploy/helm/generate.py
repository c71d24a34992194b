"""Generate what follows from other files: values.schema.json and README.md of the chart, and its copy of the Prometheus rules.

``python deploy/helm/generate.py`` writes them. ``--check`` writes nothing and exits 1 if a file is out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parent / "reconciler"
ROOT = CHART.parents[2]
RULES = ROOT / "deploy/prometheus/rules.yaml"
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"type": "array", "items": TEXT}
TEXT_MAP: dict[str, Any] = {"type": "object", "additionalProperties": TEXT}
NAME: dict[str, Any] = {"type": "string", "minLength": 1}
PORT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": 65535}
QUANTITY: dict[str, Any] = {"type": ["string", "number"], "pattern": r"^[0-9]+(\.[0-9]+)?(m|[kKMGTP]i?)?$"}
SECONDS: dict[str, Any] = {"type": "integer", "minimum": 1}
PROMETHEUS_DURATION: dict[str, Any] = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
OBJECT: dict[str, Any] = {"type": "object"}
OBJECTS: dict[str, Any] = {"type": "array", "items": OBJECT}


def _record(required: tuple[str, ...], **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def _objects(*names: str) -> dict[str, Any]:
    """Return the schema of objects of Kubernetes that need at least these texts."""
    return {"type": "array", "items": {"type": "object", "required": list(names), "properties": dict.fromkeys(names, NAME)}}


SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "nameOverride": {"type": "string", "pattern": "^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"},
    "fullnameOverride": {"type": "string", "pattern": "^([a-z]([a-z0-9-]{0,48}[a-z0-9])?)?$"},
    "commonLabels": TEXT_MAP,
    "image.repository": {"type": "string", "pattern": "^([^/:@]+(:[0-9]+)?/)?[^:@]+$"},
    "image.tag": {"type": "string", "pattern": r"^([\w][\w.-]{0,127})?$"},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "image.pullSecrets": TEXTS,
    "replicas": {"type": "integer", "minimum": 1, "maximum": 50},
    "database.type": {"enum": ["sqlite", "postgresql"]},
    "database.postgresql.port": PORT,
    "database.postgresql.sslMode": {"enum": ["disable", "prefer", "require", "verify-ca", "verify-full"]},
    "database.postgresql.user": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"},
    "database.postgresql.name": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"},
    "database.postgresql.host": {"type": "string", "pattern": "^[A-Za-z0-9.-]*$"},
    "persistence.size": QUANTITY,
    "persistence.annotations": TEXT_MAP,
    "env": {
        "type": "array",
        "items": _record(
            ("name",),
            name={"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            value=TEXT,
            existingSecret=NAME,
            key=NAME,
            valueFrom=OBJECT,
        ),
    },
    "secretFiles": {
        "type": "array",
        "items": _record(
            ("existingSecret",),
            existingSecret=NAME,
            items={
                "type": "array",
                "items": _record(("key", "path"), key=NAME, path={"type": "string", "pattern": "^[^/.][^:]*$"}),
            },
        ),
    },
    "projectedTokens": {
        "type": "array",
        "items": _record(
            ("name", "audience"),
            name={"type": "string", "pattern": "^[a-z0-9][a-z0-9.-]*$"},
            audience=NAME,
            expirationSeconds={"type": "integer", "minimum": 600, "maximum": 86400},
        ),
    },
    "serviceAccount.annotations": TEXT_MAP,
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": PORT,
    "service.annotations": TEXT_MAP,
    "listenAddress": {"type": "string", "pattern": "^[0-9A-Fa-f.:]+$"},
    "publicPaths.prefixes": {"type": "array", "items": {"type": "string", "pattern": "^/"}},
    "ingress.annotations": TEXT_MAP,
    "ingress.host": {"type": "string", "pattern": "^[a-z0-9.-]*$"},
    "gateway.host": {"type": "string", "pattern": "^[a-z0-9.-]*$"},
    "gateway.annotations": TEXT_MAP,
    "gateway.parentRefs": {
        "type": "array",
        "items": _record(("name",), name=NAME, namespace=NAME, sectionName=NAME, port=PORT, group=TEXT, kind=NAME),
    },
    "networkPolicy.ingressFrom": OBJECTS,
    "networkPolicy.metricsFrom": OBJECTS,
    "networkPolicy.egress": OBJECTS,
    "podDisruptionBudget.minAvailable": {"type": "integer", "minimum": 0},
    "metrics.serviceMonitor.interval": PROMETHEUS_DURATION,
    "metrics.serviceMonitor.scrapeTimeout": PROMETHEUS_DURATION,
    "metrics.serviceMonitor.labels": TEXT_MAP,
    "metrics.prometheusRule.labels": TEXT_MAP,
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "requests": {"type": "object", "additionalProperties": QUANTITY},
            "limits": {"type": "object", "additionalProperties": QUANTITY},
        },
    },
    "terminationGracePeriodSeconds": SECONDS,
    "preStopSeconds": {"type": "integer", "minimum": 0},
    "probes.startup.periodSeconds": SECONDS,
    "probes.startup.failureThreshold": SECONDS,
    "probes.liveness.periodSeconds": SECONDS,
    "probes.liveness.failureThreshold": SECONDS,
    "probes.readiness.periodSeconds": SECONDS,
    "probes.readiness.failureThreshold": SECONDS,
    "podLabels": TEXT_MAP,
    "podAnnotations": TEXT_MAP,
    "nodeSelector": TEXT_MAP,
    "tolerations": OBJECTS,
    "affinity": OBJECT,
    "topologySpreadConstraints": OBJECTS,
    "hostAliases": {"type": "array", "items": _record(("ip", "hostnames"), ip=NAME, hostnames=TEXTS)},
    "extraVolumes": _objects("name"),
    "extraVolumeMounts": _objects("name", "mountPath"),
    "extraContainers": _objects("name"),
}
"""Values whose schema is more than the type of their default."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the chart: path, default, and the comment above it. A mapping of more values has no row of its own."""

    path: str
    default: object
    text: str


def values() -> Iterator[Value]:
    """Yield the values in the order of values.yaml. Raises `ValueError` for one without a comment."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    yield from _values(yaml.safe_load("\n".join(lines)), _comments(lines), "")


def _values(node: Mapping[str, Any], comments: Mapping[str, str], prefix: str) -> Iterator[Value]:
    for name, default in node.items():
        path = prefix + name
        if isinstance(default, dict) and default and path not in SPECIAL:
            yield from _values(default, comments, path + ".")
        elif path not in comments:
            raise ValueError(f"values.yaml: {path} has no comment")
        else:
            yield Value(path, default, comments[path])


def _comments(lines: list[str]) -> dict[str, str]:
    """Return the comment above each key, by the dotted path of the key."""
    comments: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    text: list[str] = []
    for line in lines:
        match = re.match(r"( *)(?:# (.*)|([A-Za-z]\w*):)", line)
        if match is None:
            text = []
        elif match[3] is None:
            text.append(match[2])
        else:
            stack = [(indent, name) for indent, name in stack if indent < len(match[1])] + [(len(match[1]), match[3])]
            if text:
                comments[".".join(name for _, name in stack)] = " ".join(text)
            text = []
    return comments


def schema() -> dict[str, Any]:
    """Return the JSON schema of the values; it refuses every unknown key."""
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Values of the chart reconciler",
        "type": "object",
        "additionalProperties": False,
        "properties": {"global": {"type": "object", "description": "Set by a parent chart; not used."}},
    }
    for value in values():
        *sections, name = value.path.split(".")
        node = root
        for section in sections:
            _require(node, section)
            node = node["properties"].setdefault(section, {"type": "object", "additionalProperties": False, "properties": {}})
        if value.path == "config" or (value.default and not isinstance(value.default, bool | dict)):
            _require(node, name)
        own = config_schema() if value.path == "config" else SPECIAL.get(value.path) or _type_of(value)
        node["properties"][name] = {"description": value.text, **own}
    return root


def _require(node: dict[str, Any], name: str) -> None:
    """Refuse null, with which Helm removes a default that the templates need."""
    required = node.setdefault("required", [])
    if name not in required:
        required.append(name)


def _type_of(value: Value) -> dict[str, Any]:
    if isinstance(value.default, bool):
        return {"type": "boolean"}
    if isinstance(value.default, str):
        return TEXT
    raise ValueError(f"SPECIAL has no schema of {value.path}")


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of the daemon's configuration file, from its keys."""
    from reconciler.config.settings import KEYS

    root: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    for key in KEYS:
        *sections, name = key.path.split(".")
        node = root
        for section in sections:
            node = node["properties"].setdefault(section, {"type": "object", "additionalProperties": False, "properties": {}})
        node["properties"][name] = {"description": key.text, **_config_type(key.type.name)}
    return root


_DURATION = {"type": ["string", "number"], "pattern": r"^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s)?$", "minimum": 0}
_CONFIG_TYPES: Mapping[str, Mapping[str, Any]] = {
    "number": {"type": "integer", "minimum": 0},
    "size": {"type": ["string", "integer"], "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB|KB|MB|GB)?$", "minimum": 0},
    "duration": _DURATION,
    "true, false": {"type": "boolean"},
    "list": {"type": ["array", "string"], "items": NAME},
    "list of NAME=VALUE": {
        "type": ["array", "string"],
        "items": {"type": "string", "pattern": "^[^=]*[^= ][^=]*="},
        "pattern": "^([^=,]*[^=, ][^=,]*=[^,]*(,|$))*$",
    },
    "number from 0 to 1": {"type": "number", "minimum": 0, "maximum": 1},
    "mapping": {
        "type": "object",
        "additionalProperties": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    },
    "list of {name, sha256, role}": {
        "type": "array",
        "items": _record(
            ("name", "sha256", "role"),
            name=NAME,
            sha256={"type": "string", "pattern": "^[0-9a-f]{64}$"},
            role={"enum": ["viewer", "operator", "approver"]},
        ),
    },
    "list of {claim, value, role}": {
        "type": "array",
        "items": _record(("claim", "value", "role"), claim=NAME, value=NAME, role={"enum": ["viewer", "operator", "approver"]}),
    },
}
_WORDS = re.compile(r"[\w-]+(, [\w-]+)+", re.ASCII)
_TEXTS = {"text", "URL", "URL or folder", "file", "folder", "host:port", "path in the repository", "OWNER/NAME"}


def _config_type(name: str) -> Mapping[str, Any]:
    """Return the schema of a type of `reconciler.config.settings`; its name lists the words if there are only some.

    Raises `ValueError` for a type that is not known here: guessed, it would refuse every value.
    """
    if name in _CONFIG_TYPES:
        return _CONFIG_TYPES[name]
    if name in _TEXTS:
        return TEXT
    if not _WORDS.fullmatch(name):
        raise ValueError(f"_CONFIG_TYPES has no schema of {name!r}")
    return {"enum": name.split(", ")}


def readme() -> str:
    """Return README.md of the chart: how to install it, and a table of all values."""
    rows = [f"| `{value.path}` | {_shown(value.default)} | {_cell(value.text)} |" for value in values()]
    return _README.format(table="\n".join(rows))


def _shown(default: object) -> str:
    return "–" if default in ("", {}, []) else f"`{json.dumps(default) if not isinstance(default, str) else default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


_README = """\
<!-- Generated by deploy/helm/generate.py from values.yaml. Do not edit. -->

# Helm chart reconciler

[Kubernetes](../../../docs/kubernetes.md) describes how to install, upgrade and remove it.

```console
$ kubectl create secret generic reconciler-master-key --from-literal=master.key="$(openssl rand -base64 32)"
$ helm install reconciler deploy/helm/reconciler --values values.yaml
```

```yaml
image: {{repository: registry.example.com/reconciler}}
config:
  source: {{url: https://github.com/acme/integrations.git}}
  server: {{publicUrl: https://hooks.acme.example}}
masterKey: {{existingSecret: reconciler-master-key}}
```

## Values

Values that cannot work are refused when the chart is rendered, with the reason and what to write.

| value | default | meaning |
|---|---|---|
{table}
"""


def files() -> dict[Path, str]:
    """Return the generated files by path. A chart cannot read outside of its folder: it has a copy of the Prometheus rules."""
    generated = {
        CHART / "values.schema.json": json.dumps(schema(), indent=1, ensure_ascii=False) + "\n",
        CHART / "README.md": readme(),
    }
    if RULES.is_file():
        generated[CHART / "files/rules.yaml"] = RULES.read_text()
    return generated


def main() -> int:
    """Write the files, or with ``--check`` compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    stale = [path for path, text in files().items() if not path.is_file() or path.read_text() != text]
    for path in stale:
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(files()[path])
        print(f"{'out of date' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
