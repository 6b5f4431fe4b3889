"""The command: alphareel cut | probe | models | serve | doctor."""


def main() -> None:
    """Entry point of the console script."""
