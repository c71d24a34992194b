"""Desired, recorded and observed in; a plan out. Pure: no I/O, no clock, no environment, no logging."""
