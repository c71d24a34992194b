"""Observe, decide, apply, look again: the pass, its runtime and its clock."""
