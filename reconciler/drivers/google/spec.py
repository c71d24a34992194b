"""Google Cloud, as data."""

from reconciler.drivers.capabilities import ProviderSpec

SPEC = ProviderSpec(
    name="google",
    title="Google Cloud",
    spellings=("GOOGLE", "GOOGLE_SERVICE_ACCOUNT"),
    auth=("service-account-key", "oidc"),
)
