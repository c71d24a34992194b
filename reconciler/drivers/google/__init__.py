"""Google Cloud: its credential is checked, and signs requests of stages."""
