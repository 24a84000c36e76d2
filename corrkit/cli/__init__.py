"""The command line: one module per command, imported only when that command runs."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit code (0 done, 1 check failed, 2 user can mend, 70 our bug, 130 interrupted)."""
    raise NotImplementedError
