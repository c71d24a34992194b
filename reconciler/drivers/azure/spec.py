"""Azure, as data."""

from reconciler.drivers.capabilities import ProviderSpec

SPEC = ProviderSpec(
    name="azure",
    title="Azure",
    spellings=("AZURE", "AZURE_CLOUD"),
    auth=("client-secret", "oidc"),
)
