"""AWS: its credential is checked; its services are called with signed requests, by stages and for secrets."""
