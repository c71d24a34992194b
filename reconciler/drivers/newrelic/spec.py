"""New Relic, as data."""

from reconciler.drivers.capabilities import ProviderLimits, ProviderSpec

HOSTS = {"us": "api.newrelic.com", "eu": "api.eu.newrelic.com", "jp": "api.jp.newrelic.com"}
"""Region → the host of its API. A key is valid in the region of its account only."""

SPEC = ProviderSpec(
    name="newrelic",
    title="New Relic",
    spellings=("NEW_RELIC",),
    auth=("token",),
    why_not={"oidc": "New Relic's API does not accept ID tokens; use token"},
    hosts=tuple(HOSTS.values()),
    limits=ProviderLimits(concurrent=25),
    token_patterns=(r"NRAK-[A-Z0-9]{27}",),
)
