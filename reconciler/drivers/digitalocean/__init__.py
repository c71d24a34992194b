"""DigitalOcean: its credential is checked; nothing else is managed there."""
