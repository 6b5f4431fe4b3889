"""``python -m alphareel``."""

from alphareel.cli.main import main

main()
