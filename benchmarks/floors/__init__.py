"""Floors: the least that the same work can cost on this machine, written for the purpose. Each prints JSON."""
