"""Simulated providers: real HTTP servers on loopback with real quirks, for `demo`, for users' CI and for the tests."""
