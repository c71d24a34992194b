"""Spinnaker: manifests are validated; the driver is not part of this version."""
