"""Make the pages of docs/ that the code knows best: commands, configuration, manifests, error codes.

``python docs/generate.py`` writes them; ``--check`` writes nothing and exits 1 when a page is not what the code says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

NOTE = "<!-- Made by docs/generate.py from {source}. Do not edit: run `make docs`. -->\n\n"

RANGES = (
    ("RC10", "YAML and documents"),
    ("RC11", "Schema"),
    ("RC12", "References and meaning"),
    ("RC13", "Expressions and templates"),
    ("RC20", "Source"),
    ("RC30", "Command line and configuration"),
    ("RC40", "Credentials"),
    ("RC50", "Providers and HTTP"),
    ("RC60", "Plan and apply"),
    ("RC70", "State"),
    ("RC80", "Server and events"),
    ("RC90", "Defects of this program"),
)

FILE_ONLY = frozenset({"rateLimits", "server.tokens", "secrets.sops", "secrets.vault"})
"""Keys whose value is a mapping, or a list of mappings: an environment variable cannot hold one."""

EXIT_CODES = (
    (0, "any", "done"),
    (1, "any", "an error: the message on stderr has its code, what, where, why and the next step"),
    (1, "`plan`, `drift` with `--detailed-exitcode`", "something could not be read; the output names it"),
    (2, "`plan`, `drift` with `--detailed-exitcode`", "changes pending"),
    (2, "`status --exit-code`", "something is not Ready"),
    (3, "`plan`, `drift` with `--detailed-exitcode`", "only drift"),
    (4, "`plan`, `drift` with `--detailed-exitcode`", "something is blocked and waits for an approval"),
    (5, "`validate`, `plan`, `apply`, `run --once`", "the manifests have errors"),
    (6, "`apply`, `run --once`", "applied in part: something failed, moved meanwhile, is stalled or is blocked"),
    (6, "`trigger --wait`, `rerun --wait`", "not all of it passed in time, or nothing was queued"),
    (6, "`redeliver`", "a source could not be asked, or a delivery could not be had"),
    (64, "any", "wrong usage"),
    (78, "`run`", "what starting again does not repair: an invalid configuration, an unusable state or master key"),
    (130, "any", "interrupted (SIGINT)"),
    (143, "any", "ended by SIGTERM before it could finish"),
)

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("reconciler demo", "reconciler demo --keep"),
    "init": ("reconciler init integrations",),
    "validate": ("reconciler validate", "reconciler validate -o github .", "reconciler validate github/sources.yaml"),
    "plan": ("reconciler plan", "reconciler plan --repo . --base origin/main -o markdown", "reconciler plan --detailed-exitcode"),
    "drift": ("reconciler drift", "reconciler drift --detailed-exitcode -o json"),
    "apply": ("reconciler apply", "reconciler apply --yes", "reconciler apply --plan sha256:0f3c…"),
    "run": ("reconciler run", "reconciler run --config /etc/reconciler/reconciler.yaml", "reconciler run --once"),
    "status": ("reconciler status", "reconciler status EventSource/payments", "reconciler status --exit-code -o json"),
    "explain": ("reconciler explain EventSource/payments",),
    "history": ("reconciler history", "reconciler history EventSource/payments --limit 10", "reconciler history --verify"),
    "reconcile": ("reconciler reconcile EventSource/payments --wait",),
    "suspend": ("reconciler suspend Integration/github --reason 'migration' --until 2h",),
    "resume": ("reconciler resume Integration/github",),
    "events": ("reconciler events", "reconciler events --source payments --state rejected", "reconciler events 019abc… -o json"),
    "executions": (
        "reconciler executions",
        "reconciler executions --stage deploy --state queued",
        "reconciler executions itm-5d41402abc4b2a76b9719d91",
    ),
    "logs": ("reconciler logs itm-5d41402abc4b2a76b9719d91 --follow",),
    "trigger": (
        "reconciler trigger nightly",
        "reconciler trigger release --payload @release.json --wait --timeout 900",
    ),
    "approve": (
        "reconciler approve itm-5d41402abc4b2a76b9719d91 --digest sha256:77ab…",
        "reconciler approve sha256:0f3c…",
    ),
    "cancel": ("reconciler cancel itm-5d41402abc4b2a76b9719d91",),
    "rerun": ("reconciler rerun itm-5d41402abc4b2a76b9719d91 --wait",),
    "replay": ("reconciler events --state failed", "reconciler replay 0192f3c4a1b2-000001a1b2c3d4e5"),
    "redeliver": ("reconciler redeliver", "reconciler redeliver payments --since 2h"),
    "adopt": ("reconciler adopt EventSource/billing", "reconciler adopt EventSource/billing --external-id 12345 --yes"),
    "forget": ("reconciler forget EventSource/old --yes",),
    "recover": ("reconciler recover",),
    "export": ("reconciler export github --scope acme/web --scope acme/shop --out github/existing.yaml",),
    "accept-drift": ("reconciler accept-drift EventSource/payments --dry-run",),
    "signing-key": ("reconciler signing-key EventSource/releases",),
    "rotate": ("reconciler rotate EventSource/payments --dir .",),
    "orphans": ("reconciler orphans", "reconciler orphans --delete"),
    "ping": ("reconciler ping EventSource/payments",),
    "doctor": ("reconciler doctor",),
    "schema": ("reconciler schema EventSource", "reconciler schema --list", "reconciler schema --editor"),
    "sandbox": ("reconciler sandbox", "reconciler sandbox github --port 9000"),
    "healthcheck": ("reconciler healthcheck --max-age 60",),
    "version": ("reconciler version",),
    "completion": ("reconciler completion bash > /etc/bash_completion.d/reconciler",),
}


def pages() -> dict[str, str]:
    """Return every generated page by its path below docs/."""
    out = {"cli.md": cli_page(), "configuration.md": configuration_page(), "errors/README.md": errors_index()}
    out.update(error_pages())
    manifests = manifests_page()
    if manifests is not None:
        out["manifests.md"] = manifests
    return out


# -- commands -----------------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """Return docs/cli.md: every verb and option of the table that the parser itself is built from."""
    from reconciler.cli.verbs import GLOBALS, VERBS

    out = [
        NOTE.format(source="reconciler/cli/verbs.py"),
        "# Commands\n\n",
        _COMMANDS,
        _options(GLOBALS),
        "\n## Exit codes\n\n",
        _table(("code", "of", "means"), ((f"`{code}`", of, text) for code, of, text in EXIT_CODES)),
        "\n## Verbs\n\n",
        _table(("verb", "does"), ((f"[`{verb.name}`](#{verb.name})", _escaped(verb.help)) for verb in VERBS)),
    ]
    for verb in VERBS:
        out.append(f"\n### {verb.name}\n\n{_sentence(verb.description or verb.help)}\n\n")
        out.append("```console\n" + "".join(f"$ {line}\n" for line in EXAMPLES[verb.name]) + "```\n")
        if verb.arguments:
            out.append("\n" + _options(verb.arguments))
    return "".join(out)


_COMMANDS = """\
`reconciler VERB [options]`. `reconciler VERB --help` shows the same text. Results go to stdout; progress, logs and errors go to
stderr. `-o json` prints one document with `formatVersion`. `NO_COLOR` switches colours off.

A resource is named `KIND/NAME`, with `@CANVAS` where its canvas is not `default`. Kinds fold case.

Verbs that act on a running daemon talk to its admin socket in the state folder. With no daemon they take the lock of the state
and act themselves; only `trigger`, `cancel`, `rerun`, `redeliver`, `replay` and the approval of an item need one
([RC8002](errors/RC8002.md)). `events`, `executions` and `logs` read the state where no daemon runs.

## Options of every verb

They may stand before or after the verb.

"""


def _options(arguments: Iterable[tuple[tuple[str, ...], dict[str, Any]]]) -> str:
    rows = []
    for flags, options in arguments:
        metavar = options.get("metavar") or "\\|".join(options.get("choices", ())) or flags[-1].lstrip("-").upper()
        if flags[0].startswith("-"):
            value = "" if options.get("action") == "store_true" else f" {metavar}"
            name = ", ".join(flags) + value + (" (required)" if options.get("required") else "")
        else:
            name = f"[{metavar}]" if options.get("nargs") in {"?", "*"} else str(metavar)
            name += "…" if options.get("nargs") == "*" else ""
        rows.append((f"`{name}`", _escaped(options["help"])))
    return _table(("option", "means"), rows)


# -- configuration ------------------------------------------------------------------------------------------------------


def configuration_page() -> str:
    """Return docs/configuration.md: every key of the table that the loader itself works with."""
    from reconciler.config.settings import Config

    sections: dict[str, list[tuple[str, ...]]] = {}
    for key, kind, default, variable, text in Config().describe():
        section = key.partition(".")[0] if "." in key else "(top level)"
        shown = f"`{_escaped(default)}`" if default else "–"
        where = "–" if key in FILE_ONLY else f"`{variable}`"
        sections.setdefault(section, []).append((f"`{key}`", _escaped(kind), shown, _escaped(text), where))
    out = [NOTE.format(source="reconciler/config/settings.py"), "# Configuration\n\n", _CONFIGURATION]
    for section, rows in sections.items():
        out.append(f"\n## {section}\n\n" + _table(("key", "value", "default", "means", "environment"), rows))
    return "".join(out)


_CONFIGURATION = """\
The daemon reads `reconciler.yaml`: the file that `--config` names, else the one in the working directory, else the defaults with
`--repo`. The command line wins over the environment, and the environment wins over the file. All problems are reported at once,
each with file, line and column. An unknown key is an error.

- Every key with a single value or a list of texts is also an environment variable, named in the last column.
- Every such key that does not name a file or a folder can be read from a file: append `_FILE` to the variable.
- Lists in the environment are separated by commas.
- Relative paths are relative to the configuration file; in the environment, to the working directory.
- Durations: `90s`, `5m`, `1h30m`, `7d`. Sizes: `64KiB`, `25MiB`, or bytes.
- The file may lie among the manifests. It is not read as one.
- SIGHUP reads it again. A file that is not valid changes nothing; the log says why (`reload_refused`).

```yaml
source:
  url: https://github.com/acme/integrations
  branch: main
  auth: {tokenFile: /etc/reconciler/secrets/git-token}
server:
  listen: 127.0.0.1:8080
  publicUrl: https://hooks.acme.example
reconcile:
  interval: 5m
  limits: {deletePercent: 30, deleteMinimum: 3, deleteMax: 25}
```

Changing `owner`, or the `source.url`, `source.branch` or `source.path` that its default is made of, makes an existing state
refuse to work ([RC7010](errors/RC7010.md)): set `owner` to the value that the message names to go on.
"""


# -- error codes --------------------------------------------------------------------------------------------------------


def error_pages() -> dict[str, str]:
    """Return one page for each code."""
    from reconciler.model.codes import CODES

    head = NOTE.format(source="reconciler/model/codes.py")
    return {
        f"errors/{code.id}.md": f"{head}# {code.id}: {code.title}\n\n**Cause.** {code.cause}\n\n"
        f"**What to do.** {code.fix}\n\n[All codes](README.md)\n"
        for code in CODES.values()
    }


def errors_index() -> str:
    """Return the table of all codes, in their ranges."""
    from reconciler.model.codes import CODES

    out = [
        NOTE.format(source="reconciler/model/codes.py"),
        "# Error codes\n\n",
        "Every message that a user is shown has a code. A code keeps its meaning for ever.\n",
    ]
    for prefix, title in RANGES:
        rows = [
            (f"[{code.id}]({code.id}.md)", _escaped(code.title))
            for code in sorted(CODES.values(), key=lambda c: c.id)
            if code.id.startswith(prefix)
        ]
        if rows:
            out.append(f"\n## {title}\n\n" + _table(("code", "meaning"), rows))
    return "".join(out)


# -- manifests ----------------------------------------------------------------------------------------------------------


def manifests_page() -> str | None:
    """Return docs/manifests.md, which the package of the manifests makes from its own schemas."""
    try:
        from reconciler.manifests import reference
    except ImportError:
        return None
    return NOTE.format(source="schemas/ by reconciler/manifests/reference.py") + reference.render()


# -- Markdown -----------------------------------------------------------------------------------------------------------


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", ")")) else ".")


def stale(folder: Path) -> list[str]:
    """Return the pages below ``folder`` that are not what the code says: missing, different, or left over."""
    wanted = pages()
    there = {name: folder / name for name in wanted if (folder / name).is_file()}
    bad = [name for name, text in wanted.items() if name not in there or there[name].read_text(encoding="utf-8") != text]
    bad += [f"errors/{path.name}" for path in (folder / "errors").glob("RC*.md") if f"errors/{path.name}" not in wanted]
    return sorted(bad)


def write(folder: Path) -> list[str]:
    """Write what is stale and remove what is left over; returns the names."""
    wanted, changed = pages(), stale(folder)
    for name in changed:
        path = folder / name
        if name not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")
    return changed


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is not up to date")
    folder = ROOT / "docs"
    if not parser.parse_args().check:
        changed = write(folder)
        print("\n".join(f"wrote docs/{name}" for name in changed) or "docs/ is up to date")
        return 0
    bad = stale(folder)
    for name in bad:
        print(f"docs/{name} is not what the code says: run `make docs`", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
