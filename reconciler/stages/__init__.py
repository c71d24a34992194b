"""Stages: what waits, what runs, what became of it. A queue in the state, conditions, executions, outputs and reports."""
