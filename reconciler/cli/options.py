"""The options of each verb with their types: argparse sets the attributes, and the verb reads them.

The table of verbs names the class of each verb. A test compares the attributes with the arguments of the table. The module imports
nothing else of the program, so that ``--help`` is fast.
"""

from __future__ import annotations


class VerbOptions:
    """The options that every verb has."""

    verb: str = ""
    config: str | None = None
    repo: str | None = None
    log_level: str | None = None


class OutputOptions(VerbOptions):
    """The option ``--output`` alone."""

    output: str


class ListOptions(OutputOptions):
    """The options of every verb that lists."""

    watch: bool
    utc: bool


class ResourceOptions(VerbOptions):
    """One resource, as ``KIND/NAME[@CANVAS]``."""

    resource: str


class WaitOptions(OutputOptions):
    """``--wait`` until queued items have finished. ``timeout``: seconds."""

    wait: bool
    timeout: float


class DemoOptions(VerbOptions):
    keep: bool
    dir: str | None


class InitOptions(VerbOptions):
    dir: str
    force: bool


class BackupOptions(OutputOptions):
    file: str
    with_key: bool
    force: bool


class RestoreOptions(OutputOptions):
    file: str | None
    with_key: bool
    resume_work: bool
    yes: bool


class ValidateOptions(OutputOptions):
    paths: list[str]


class DriftOptions(OutputOptions):
    path: str | None
    detailed_exitcode: bool


class PlanOptions(DriftOptions):
    base: str | None
    snapshot: str | None


class ApplyOptions(OutputOptions):
    path: str | None
    plan: str | None
    yes: bool
    no_wait: bool


class RunOptions(VerbOptions):
    once: bool


class StatusOptions(ListOptions):
    resource: str | None
    exit_code: bool


class CredentialsOptions(ListOptions):
    until: str


class ExplainOptions(ListOptions):
    resource: str


class HistoryOptions(ListOptions):
    resource: str | None
    limit: int
    verify: bool
    anchor: str | None


class ReconcileOptions(ResourceOptions):
    wait: bool
    timeout: float


class SuspendOptions(ResourceOptions):
    reason: str
    until: str | None


class EventsOptions(ListOptions):
    id: str | None
    source: str | None
    state: str | None
    all: bool
    limit: int


class ExecutionsOptions(ListOptions):
    id: str | None
    stage: str | None
    state: str | None
    limit: int


class LogsOptions(VerbOptions):
    id: str
    follow: bool


class TriggerOptions(WaitOptions):
    source: str
    payload: str | None
    type: str | None
    key: str | None


class ApproveOptions(VerbOptions):
    id: str
    digest: str | None


class ReviewOptions(OutputOptions):
    number: int


class CancelOptions(VerbOptions):
    id: str


class RerunOptions(WaitOptions):
    id: str
    key: str | None


class RedeliverOptions(OutputOptions):
    source: str | None
    since: str | None


class ReplayOptions(OutputOptions):
    id: str


class AdoptOptions(ResourceOptions):
    external_id: str | None
    yes: bool


class ForgetOptions(ResourceOptions):
    yes: bool


class RecoverOptions(OutputOptions):
    yes: bool


class ExportOptions(VerbOptions):
    integration: str
    scope: list[str]
    out: str | None


class AcceptDriftOptions(ResourceOptions):
    dir: str
    dry_run: bool


class SigningKeyOptions(ResourceOptions):
    previous: bool


class NotifyOptions(VerbOptions):
    action: str
    name: str


class RotateOptions(VerbOptions):
    resource: str | None
    all: bool
    dir: str


class OidcOptions(OutputOptions):
    action: str
    arguments: list[str]
    dir: str
    audience: str | None
    show: bool
    emergency: bool
    yes: bool


class AppOptions(ListOptions):
    action: str
    integration: str | None
    org: str | None
    user: str | None
    url: str | None
    api_url: str | None
    name: str | None
    permission: list[str]
    event: list[str]
    dir: str
    out: str | None
    no_browser: bool
    port: int
    timeout: float
    exit_code: bool


class OrphansOptions(ListOptions):
    delete: bool
    yes: bool


class SchemaOptions(VerbOptions):
    kind: str | None
    list: bool
    editor: bool


class SandboxOptions(VerbOptions):
    provider: list[str]
    port: int


class HealthcheckOptions(VerbOptions):
    max_age: float


class CompletionOptions(VerbOptions):
    shell: str
