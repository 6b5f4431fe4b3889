"""Standard output and standard error of the command."""

from rich.console import Console

stdout = Console(highlight=False, markup=False)
stderr = Console(stderr=True, highlight=False, markup=False)
