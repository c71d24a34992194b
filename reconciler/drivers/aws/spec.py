"""AWS, as data."""

from reconciler.drivers.capabilities import ProviderSpec

SPEC = ProviderSpec(
    name="aws",
    title="AWS",
    spellings=("AMAZON",),
    auth=("access-key", "oidc"),
    token_patterns=(r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])",),
)
