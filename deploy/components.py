"""What ships: the packages that the program needs, with versions and hashes from the lock and licences from the installed packages.

``python deploy/components.py`` writes THIRD_PARTY_LICENSES.md; with ``--check`` it only compares.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "THIRD_PARTY_LICENSES.md"
ALLOWED = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "ISC",
        "LGPL-3.0-only",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "ZPL-2.1",
    ]
)
"""Licences (SPDX) that may ship. LGPL-3.0 (psycopg) and MPL-2.0 apply to the package itself, which is not changed; GPL and AGPL would apply to all."""
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
_NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "mit": "MIT",
    "mit license": "MIT",
}
_TEXTS = {"The MIT License (MIT)": "MIT"}
"""Licences by the first line of their text, for a package that has nothing but the text."""
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)((?:\s+\\?\s*--hash=sha256:[0-9a-f]{64}|\s*\\\s*)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Component:
    """A package that ships."""

    name: str
    version: str
    hashes: tuple[str, ...]
    """SHA-256 of every file of this version that the lock accepts."""
    license: str
    """SPDX expression; empty if the package does not say."""
    homepage: str
    requires: tuple[str, ...]
    """Names of the components that it needs."""
    extras: tuple[str, ...] = ()
    """Extras of the program that bring it in; empty if the program always needs it."""

    @property
    def purl(self) -> str:
        return f"pkg:pypi/{self.name}@{self.version}"


def components() -> list[Component]:
    """Return the packages that the program needs, and those of its extras, sorted by name. Raises `LookupError` for one that is not locked."""
    locks = (ROOT / name for name in ("requirements-image.lock", "requirements.lock"))  # the image has the extras, too
    text = "".join(lock.read_text(encoding="utf-8") for lock in locks)
    pinned = {canonicalize_name(name): (version, _hashes(rest)) for name, version, rest in _PINNED.findall(text)}
    needed = _closure(direct(), pinned)
    by_extra = {extra: _closure(names, pinned) for extra, names in extras().items()}
    for name in {name for parts in by_extra.values() for name in parts} - needed.keys():
        users = [extra for extra, parts in by_extra.items() if name in parts]
        needed[name] = dataclasses.replace(by_extra[users[0]][name], extras=tuple(sorted(users)))
    return [needed[name] for name in sorted(needed)]


def _closure(names: Sequence[str], pinned: Mapping[str, tuple[str, tuple[str, ...]]]) -> dict[str, Component]:
    needed: dict[str, Component] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        if name not in pinned:
            raise LookupError(f"{name} is needed and is not in the lock")
        installed = metadata.distribution(name)
        version, hashes = pinned[name]
        if installed.version != version:
            raise LookupError(f"{name} {installed.version} is installed, the lock has {version}: run `make`")
        requires = tuple(sorted(set(_requires(installed, _extras(name)))))
        license_ = license_of(installed.metadata) or _license_by_text(installed)
        needed[name] = Component(name, version, hashes, license_, _homepage(installed.metadata), requires)
        todo += requires
    return needed


def direct() -> list[str]:
    """Return the names of the packages that the program itself imports."""
    return _names(_project()["dependencies"])


def extras() -> dict[str, list[str]]:
    """Return the names of the packages that each extra of the program adds."""
    return {extra: _names(texts) for extra, texts in sorted(_project()["optional-dependencies"].items())}


def _names(texts: Sequence[str]) -> list[str]:
    return sorted({canonicalize_name(Requirement(text).name) for text in texts})


def refused(parts: list[Component]) -> list[str]:
    """Return a line for each component whose licence is missing, or may not ship."""
    lines = []
    for part in parts:
        if not part.license:
            lines.append(f"{part.name} {part.version} has no licence that this program understands")
        elif not is_allowed(part.license):
            lines.append(f"{part.name} {part.version} has the licence {part.license}, which may not ship")
    return lines


def is_allowed(expression: str) -> bool:
    """Whether one of the alternatives of an SPDX expression allows to ship, with everything that it demands together."""
    flat = expression.replace("(", " ").replace(")", " ")
    choices = re.split(r"\s+OR\s+", flat)
    return any(all(name.strip() in ALLOWED for name in re.split(r"\s+(?:AND|WITH)\s+", choice)) for choice in choices)


def license_of(info: Mapping[str, str]) -> str:
    """Return the licence of a package as an SPDX expression; empty if its metadata have none that can be understood."""
    if expression := info.get("License-Expression"):
        return expression
    classifiers = [value.rsplit(" :: ", 1)[-1] for value in info.get_all("Classifier", []) if value.startswith("License ::")]  # type: ignore[attr-defined]
    known = sorted({_CLASSIFIERS[name] for name in classifiers if name in _CLASSIFIERS})
    if known:
        return " AND ".join(known)
    text = str(info.get("License", "")).strip()
    if "Redistributions of source code must retain" in text:  # the whole text in place of a name
        return "BSD-3-Clause" if "Neither the name" in text else "BSD-2-Clause"
    return _NAMES.get(text.lower(), "")


def page(parts: list[Component]) -> str:
    """Return THIRD_PARTY_LICENSES.md."""
    rows = "".join(
        f"| [{part.name}]({part.homepage}) | {part.version} | {part.license} | {', '.join(part.extras)} |\n" for part in parts
    )
    return (
        "<!-- Generated by deploy/components.py from the locks. Do not edit; run `make docs`. -->\n\n"
        "# Licences of third parties\n\n"
        "The wheel contains only files of this project, under the [Apache License 2.0](LICENSE). The packages that it needs are installed beside\n"
        "it; those of an extra only with that extra. All of them are in the container image. Each has the text of its licence in its\n"
        "`dist-info` folder. The packages of Debian in the image have theirs in `/usr/share/doc/PACKAGE/copyright`.\n\n"
        f"| package | version | licence | extra |\n|---|---|---|---|\n{rows}"
    )


def _license_by_text(installed: metadata.Distribution) -> str:
    """Return the licence of a package by the text that it ships; empty if its first line does not name it."""
    for name in installed.metadata.get_all("License-File", []):
        text = installed.read_text(f"licenses/{name}") or installed.read_text(name) or ""
        if known := _TEXTS.get(text.strip().partition("\n")[0].strip()):
            return known
    return ""


def _hashes(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"sha256:([0-9a-f]{64})", text))


def _project() -> dict[str, Any]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(document["project"])


def _extras(name: str) -> frozenset[str]:
    wanted = [
        Requirement(text)
        for text in [*_project()["dependencies"], *itertools.chain(*_project()["optional-dependencies"].values())]
    ]
    return frozenset(extra for each in wanted if canonicalize_name(each.name) == name for extra in each.extras)


def _requires(installed: metadata.Distribution, extras: frozenset[str]) -> Iterator[str]:
    for text in installed.requires or []:
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(environment) for environment in environments):
            yield canonicalize_name(requirement.name)


def _homepage(info: Mapping[str, str]) -> str:
    urls = [value.partition(", ") for value in info.get_all("Project-URL", [])]  # type: ignore[attr-defined]
    by_label = {label.lower(): url for label, _, url in urls}
    for label in ("homepage", "source", "repository", "source code", "github", "code"):
        if label in by_label:
            return by_label[label]
    return info.get("Home-page") or f"https://pypi.org/project/{info['Name']}/"


def main() -> int:
    parts = components()
    if bad := refused(parts):
        print("\n".join(bad), file=sys.stderr)
        return 1
    text = page(parts)
    if "--check" in sys.argv:
        return int(PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
