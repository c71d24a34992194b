"""Credentials: secret backends, derived keys, redaction. Values leave only for their provider."""
