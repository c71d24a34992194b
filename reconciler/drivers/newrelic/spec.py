"""New Relic, as data."""

from reconciler.drivers.capabilities import ProviderSpec

SPEC = ProviderSpec(
    name="newrelic",
    title="New Relic",
    spellings=("NEW_RELIC",),
    auth=("token",),
    why_not={"oidc": "New Relic's API does not accept ID tokens; use token"},
    token_patterns=(r"NRAK-[A-Z0-9]{27}",),
)
