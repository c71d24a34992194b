"""GitLab, as data."""

from reconciler.drivers.capabilities import ExecutorRule, NameRule, ProviderSpec

_PATH = r"[A-Za-z0-9_.-]{1,255}(?:/[A-Za-z0-9_.-]{1,255})*"
_RULE = NameRule(pattern=_PATH, hint="For example `group/project`.")

SPEC = ProviderSpec(
    name="gitlab",
    title="GitLab",
    spellings=("GIT_LAB",),
    auth=("token",),
    why_not={"oidc": "GitLab's API does not accept ID tokens; use token"},
    needs_url=True,
    sources={"project": _RULE, "group": _RULE},
    executor=ExecutorRule(resource="project"),
    guarded=True,
    job_tokens=True,
    token_patterns=(r"gl(?:pat|dt|ptt|oas|rt|soat)-[A-Za-z0-9_.-]{20,64}",),
)
