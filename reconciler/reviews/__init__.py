"""Review of pull requests: an offline plan as a check and one comment, without a secret near untrusted manifests."""
