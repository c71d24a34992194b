"""Stages: queues in the state, conditions, executions, outputs, and reports to code hosts."""
