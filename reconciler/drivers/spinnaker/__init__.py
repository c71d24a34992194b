"""Spinnaker: the credential of its API (Gate) is checked; pipelines are not part of this version."""
