"""Credentials: secret backends, derived keys, redaction. A value is sent only to its provider."""
