"""Google Cloud, as data. Facts: the discovery documents of sts, iam, iamcredentials and oauth2."""

from reconciler.drivers.capabilities import CallerRule, ProviderSpec

SPEC = ProviderSpec(
    name="google",
    title="Google Cloud",
    spellings=("GOOGLE", "GOOGLE_SERVICE_ACCOUNT"),
    auth=("service-account-key", "oidc"),
    oidc_needs=("workloadIdentityProvider",),
    audience="//iam.googleapis.com/{workloadIdentityProvider}",
    hosts=("oauth2.googleapis.com", "sts.googleapis.com", "iamcredentials.googleapis.com", "www.googleapis.com"),
    service_hosts=("*.googleapis.com", "*.*.rep.googleapis.com"),
    caller=CallerRule(keys=("audience",)),
    exchange_audiences=("//iam.googleapis.com/*", "https://iam.googleapis.com/*"),
)
