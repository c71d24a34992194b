"""Small verbs: schema, sandbox, healthcheck, version, completion."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from pathlib import Path

from reconciler.cli.options import CompletionOptions, HealthcheckOptions, OutputOptions, SandboxOptions, SchemaOptions
from reconciler.cli.output import emit_json
from reconciler.cli.sink import block, json_document, out
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK


def version(options: OutputOptions) -> int:
    """Print the version."""
    from reconciler import __version__

    if options.output == "json":
        import platform

        emit_json({"version": __version__, "python": platform.python_version()})
    else:
        out(f"reconciler {__version__}")
    return EXIT_OK


def schema(options: SchemaOptions) -> int:
    """Print a schema, the list of kinds, or settings for editors."""
    from reconciler.manifests import schema as schemas
    from reconciler.model.resources import Kind

    kinds = {kind.value.lower(): kind.value for kind in Kind}
    if options.list:
        block("\n".join(kinds.values()))
        return EXIT_OK
    if options.editor:
        block(EDITOR)
        return EXIT_OK
    documents = {**kinds, "plan": "plan"}  # what `plan -o json` prints has a schema too
    if options.kind is not None and options.kind.lower() not in documents:
        raise _unknown("kind", options.kind, documents.values())
    name = documents[options.kind.lower()] if options.kind else "manifest"
    json_document(json.dumps(schemas.schema(name), indent=2) + "\n")
    return EXIT_OK


def _unknown(what: str, word: str, known: Collection[str]) -> Exception:
    """Return the error for a word that is not ``known``, with the nearest one."""
    from reconciler.cli.parser import did_you_mean
    from reconciler.model.errors import UsageError  # not for `version`, which has no error

    return UsageError(f"no {what} {word!r}", hint=did_you_mean(word, known, f"Known: {', '.join(known)}."))


EDITOR = """\
# 1. Write the schema beside your manifests:
#      reconciler schema > .reconciler.schema.json
# 2. Any editor with yaml-language-server: first line of a manifest
# yaml-language-server: $schema=.reconciler.schema.json
# 3. Or for a whole folder, in VS Code's .vscode/settings.json:
#      {"yaml.schemas": {".reconciler.schema.json": ["*.yaml", "*.yml"]}}
# 4. JetBrains: Settings > Languages & Frameworks > Schemas and DTDs > JSON Schema Mappings"""


def sandbox(options: SandboxOptions) -> int:
    """Run simulated providers until Ctrl-C."""
    from reconciler.sandbox.server import PROVIDERS, run_forever

    chosen = options.provider or list(PROVIDERS)
    unknown = [name for name in chosen if name not in PROVIDERS]
    if unknown:
        raise _unknown("simulator", unknown[0], PROVIDERS)
    ports = {name: (options.port + index if options.port else 0) for index, name in enumerate(chosen)}
    run_forever(ports, say=out)
    return EXIT_OK


def healthcheck(options: HealthcheckOptions) -> int:
    """Exit 0 if the heartbeat in the status file is recent."""
    from reconciler.cli.session import configuration
    from reconciler.cli.status import age_s, read

    document = read(Path(configuration(options).status.file))
    age = age_s(document, time.time())
    phase = document.daemon.phase
    healthy = age <= options.max_age and phase in {"starting", "running", "draining"}
    out(f"{phase}, heartbeat {age:.0f} s old")
    return EXIT_OK if healthy else EXIT_ERROR


def completion(options: CompletionOptions) -> int:
    """Print a completion script made from the table of verbs."""
    from reconciler.cli.completion import script

    block(script(options.shell))
    return EXIT_OK
