"""Build a release into dist/: wheel, source archive, software bill of materials (CycloneDX 1.6), SHA256SUMS.

The same commit gives the same bytes: times are those of the commit (or of SOURCE_DATE_EPOCH), and nothing else of this machine gets in.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from deploy.components import Component, components, direct, extras, refused  # noqa: E402  the path is set above

NAME = "integrations-reconciler"


def epoch() -> int:
    """Return the time of the release in seconds since the epoch."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 else 1_577_836_800


def build(target: Path) -> list[Path]:
    """Build wheel and source archive into ``target``, and return them."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch())}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(target)], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL
    )
    return sorted([*target.glob("*.whl"), *target.glob("*.tar.gz")])


def warn_of_changes() -> None:
    """Say on stderr if the files are not those of a commit: another checkout builds other bytes."""
    done = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True, check=False)
    if done.stdout:
        print(f"warning: this release has changes that are not committed:\n{done.stdout}", end="", file=sys.stderr)


def bill(version: str, parts: list[Component], at: int) -> dict[str, Any]:
    """Return the bill of materials of the program with everything that it needs."""
    purls = {part.name: part.purl for part in parts}
    root = f"pkg:pypi/{NAME}@{version}"
    content = "\n".join([root, *(f"{part.purl} {' '.join(part.hashes)}" for part in parts)])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {
            "timestamp": dt.datetime.fromtimestamp(at, dt.UTC).isoformat().replace("+00:00", "Z"),
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": NAME,
                "version": version,
                "purl": root,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": [_component(part) for part in parts],
        "dependencies": [
            {"ref": root, "dependsOn": [purls[name] for name in sorted({*direct(), *itertools.chain(*extras().values())})]},
            *({"ref": part.purl, "dependsOn": [purls[name] for name in part.requires]} for part in parts),
        ],
    }


def _component(part: Component) -> dict[str, Any]:
    single = " " not in part.license
    return {
        "type": "library",
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "scope": "optional" if part.extras else "required",
        "licenses": [{"license": {"id": part.license}} if single else {"expression": part.license}],
        "externalReferences": [
            {
                "type": "distribution",
                "url": f"https://pypi.org/project/{part.name}/{part.version}/",
                # The lock accepts any of these files: a wheel for each platform, and the source archive.
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in part.hashes],
            }
        ],
    }


def main(target: Path) -> int:
    """Build everything. Exits 1, before anything is built, if a licence may not ship."""
    parts = components()
    if bad := refused(parts):
        print("\n".join(bad), file=sys.stderr)
        return 1
    warn_of_changes()
    shutil.rmtree(target, ignore_errors=True)
    files = build(target)
    version = files[0].name.split("-")[1]
    materials = target / f"integrations_reconciler-{version}.cdx.json"
    materials.write_text(json.dumps(bill(version, parts, epoch()), indent=1) + "\n", encoding="utf-8")
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted([*files, materials])]
    (target / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    print(
        "\n".join(
            str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file) for file in sorted(target.iterdir())
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist").absolute()))
