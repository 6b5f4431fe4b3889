"""What several tests share: the command, and the services of one installation with a client."""

from tests.unit.conftest import caller, command, harness

__all__ = ["caller", "command", "harness"]
