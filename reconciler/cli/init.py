"""``init``: a starter repository that validates, plans on pull requests and completes in the editor."""

from __future__ import annotations

import json
from pathlib import Path

from reconciler.cli.options import InitOptions
from reconciler.cli.sink import block, out
from reconciler.model.errors import ReconcilerError
from reconciler.model.exit_codes import EXIT_OK

SCHEMA_FILE = ".reconciler.schema.json"
_MODELINE = "# yaml-language-server: $schema={up}" + SCHEMA_FILE + "\n"

_MANIFESTS = {
    "github/integration.yaml": """\
# A reference, never a value: the daemon reads RECONCILER_SECRET_GITHUB_TOKEN from its own environment.
# The token needs "Webhooks: read and write" on the repositories below.
apiVersion: v1
kind: Secret
metadata:
  name: github
spec:
  provider: env
  data:
    token: {env: RECONCILER_SECRET_GITHUB_TOKEN}
---
apiVersion: v1
kind: Integration
metadata:
  name: github
spec:
  type: github
  url: https://github.com/your-organization
  auth:
    use: token
    token:
      valueFrom:
        secret: {name: github, key: token}
""",
    "github/sources.yaml": """\
# One webhook on the repository; its signing key is derived and sent by the daemon.
apiVersion: v1
kind: EventSource
metadata:
  name: your-repository
spec:
  integration:
    name: github
  resource:
    type: repository
    name: your-repository
  events:
    - type: push
""",
}
_OTHERS = {
    "reconciler.yaml": """\
# The daemon's configuration; docs/configuration.md lists every key. It is not read as a manifest.
source:
  url: .                          # this folder; in production the repository's https or ssh URL
server:
  publicUrl: https://hooks.example.com   # where providers reach this daemon
reconcile:
  interval: 5m
""",
    ".pre-commit-config.yaml": """\
repos:
  - repo: local
    hooks:
      - id: reconciler-validate
        name: validate integration manifests
        entry: reconciler validate
        language: system
        types: [yaml]
        pass_filenames: false
""",
    ".github/workflows/plan.yaml": """\
# Plans on pull requests without a credential: desired against desired.
name: plan
on:
  pull_request:
permissions:
  contents: read
  pull-requests: write # the comment; a fork has a token that only reads
jobs:
  plan:
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@v4
        with: {fetch-depth: 0, persist-credentials: false}
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
      # The wheel that `make wheel` builds: a URL or path in the repository variable RECONCILER_WHEEL.
      # ("reconciler" on PyPI is another project.)
      - run: pip install "$RECONCILER_WHEEL"
        env: {RECONCILER_WHEEL: "${{ vars.RECONCILER_WHEEL }}"}
      # A name that a branch chose is passed through the environment, never pasted into the script.
      - run: reconciler validate -o github .
      - run: |
          reconciler plan --repo . --base "origin/$BASE_REF" -o markdown > "$RUNNER_TEMP/plan.md"
          cat "$RUNNER_TEMP/plan.md" >> "$GITHUB_STEP_SUMMARY"
        env: {BASE_REF: "${{ github.base_ref }}"}
      # One comment, known by its first line, and edited. The token of a fork cannot write: its plan is in the summary only.
      - if: github.event.pull_request.head.repo.full_name == github.repository
        run: |
          call() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $TOKEN" "$@"; }
          ours='[.[] | select(.user.login == "github-actions[bot]" and (.body | startswith("<!-- reconciler-plan -->")))][0].url // ""'
          page=1 url=
          while [ -z "$url" ]; do
            call "$COMMENTS?per_page=100&page=$page" > "$RUNNER_TEMP/page.json"
            [ "$(jq length "$RUNNER_TEMP/page.json")" -gt 0 ] || break
            url=$(jq -r "$ours" "$RUNNER_TEMP/page.json") page=$((page + 1))
          done
          if [ -z "$url" ] && ! grep -q "^Digest " "$RUNNER_TEMP/plan.md"; then exit 0; fi  # nothing changes: no comment
          jq -Rs "{body: .}" "$RUNNER_TEMP/plan.md" > "$RUNNER_TEMP/body.json"
          if [ -n "$url" ]; then method=PATCH; else method=POST; fi
          call -X "$method" -d "@$RUNNER_TEMP/body.json" "${url:-$COMMENTS}" > /dev/null
        env:
          TOKEN: ${{ github.token }}
          COMMENTS: ${{ github.api_url }}/repos/${{ github.repository }}/issues/${{ github.event.pull_request.number }}/comments
""",
    ".gitignore": "state/\n",
    ".vscode/settings.json": json.dumps({"yaml.schemas": {SCHEMA_FILE: ["*.yaml", "*.yml", "!reconciler.yaml"]}}, indent=2)
    + "\n",
}


def files() -> dict[str, str]:
    """Return the files of the starter repository by path."""
    from reconciler.manifests import schema as schemas

    out = {path: _MODELINE.format(up="../" * path.count("/")) + text for path, text in _MANIFESTS.items()}
    out.update(_OTHERS)
    out[SCHEMA_FILE] = json.dumps(schemas.schema("manifest"), indent=1) + "\n"
    return out


def init(options: InitOptions) -> int:
    """Write the starter repository; existing files are overwritten only with --force."""
    root = Path(options.dir)
    content = files()
    existing = sorted(path for path in content if (root / path).exists())
    if existing and not options.force:
        raise ReconcilerError(
            f"{len(existing)} of the files exist already: {', '.join(existing[:5])}",
            code="RC3002",
            hint="Nothing was written. Name another folder, or use --force to overwrite them.",
        )
    for path, text in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
        out(f"wrote {root / path}")
    block(
        "\nNext:\n"
        f"  cd {root}\n"
        "  edit github/integration.yaml and github/sources.yaml\n"
        "  reconciler validate\n"
        "  export RECONCILER_SECRET_GITHUB_TOKEN=...\n"
        "  reconciler plan"
    )
    return EXIT_OK
