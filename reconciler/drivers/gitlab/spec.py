"""GitLab, as data. The limit is that of gitlab.com for an authenticated user; installations of one's own have none by default."""

from reconciler.drivers.capabilities import ExecutorRule, NameRule, ProviderLimits, ProviderSpec

_PATH = r"[A-Za-z0-9_.-]{1,255}(?:/[A-Za-z0-9_.-]{1,255})*"
_RULE = NameRule(pattern=_PATH, hint="For example `group/project`.")

SPEC = ProviderSpec(
    name="gitlab",
    title="GitLab",
    spellings=("GIT_LAB",),
    auth=("token",),
    why_not={"oidc": "GitLab's API does not accept ID tokens; use token"},
    needs_url=True,
    hosts=("gitlab.com",),
    limits=ProviderLimits(points_per_minute=2_000, read_points=1, write_points=1),
    sources={"project": _RULE, "group": _RULE},
    executor=ExecutorRule(resource="project"),
    guarded=True,
    job_tokens=True,
    token_patterns=(r"gl(?:pat|dt|ptt|oas|rt|soat)-[A-Za-z0-9_.-]{20,64}",),
)
