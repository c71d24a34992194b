"""Spinnaker, as data. It has no host of its own: an installation must be in ``network.allow``."""

from reconciler.drivers.capabilities import ExecutorRule, ProviderSpec

SPEC = ProviderSpec(
    name="spinnaker",
    title="Spinnaker",
    spellings=("SPINNAKER",),
    auth=("token", "basic", "none"),
    why_not={"oidc": "Spinnaker's Gate exchanges no ID tokens; use token, basic or none"},
    needs_url=True,
    executor=ExecutorRule(resource="pipeline"),
    guarded=True,
)
