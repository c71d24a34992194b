"""Benchmarks: every goal as a ratio against a floor that is measured in the same run. See docs/performance.md."""
