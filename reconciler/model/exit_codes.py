"""Exit codes of the program (docs/cli.md): sysexits(3) where it has one, and the codes that CI reads."""

EXIT_OK, EXIT_ERROR, EXIT_INVALID, EXIT_PARTIAL, EXIT_USAGE = 0, 1, 5, 6, 64
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits(3), of ``run`` alone: restarting the daemon does not help."""
EXIT_SIGINT, EXIT_SIGTERM = 130, 143
