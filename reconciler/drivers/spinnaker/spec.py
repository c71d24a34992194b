"""Spinnaker, as data."""

from reconciler.drivers.capabilities import ExecutorRule, ProviderSpec

SPEC = ProviderSpec(
    name="spinnaker",
    title="Spinnaker",
    spellings=("SPINNAKER",),
    auth=("token", "basic", "none"),
    needs_url=True,
    executor=ExecutorRule(resource="pipeline"),
    guarded=True,
)
