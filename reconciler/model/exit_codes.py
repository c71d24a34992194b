"""Exit codes of the program (docs/cli.md): sysexits(3) where it has one, and the codes that CI reads."""

EXIT_OK, EXIT_ERROR, EXIT_INVALID, EXIT_PARTIAL, EXIT_USAGE = 0, 1, 5, 6, 64
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits(3), of ``run`` alone: restarting the daemon does not help."""
RESTART_IS_USELESS = frozenset({EXIT_USAGE, EXIT_CONFIG})
"""Exit codes of ``run`` that need a person: a supervisor does not start the daemon again (`RestartPreventExitStatus`)."""
EXIT_SIGINT, EXIT_SIGTERM = 130, 143
