"""A request process: one of several that answer the requests of one listening socket (ALPHAREEL_API_PROCESSES)."""

import argparse
import json
import math
import socket
import sys

from alphareel.domain.errors import AlphareelError
from alphareel.server import api_server
from alphareel.server.request_supervisor import FIRST_KEY, PROCESS_NAME, REQUEST_MODULE
from alphareel.server.settings import settings_from, traces_are_wanted
from alphareel.service.settings import Settings
from alphareel.service.worker.confinement import hide_process
from alphareel.service.worker.parent_watch import bind_to_parent, first_line, watch_input
from alphareel.service.worker.spares import SpareConfig, Spares
from alphareel.telemetry.logging import configure_service_logging, get_logger
from alphareel.telemetry.tracing import configure_tracing


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process that the supervisor starts. Settings come as the first line of standard input."""
    parser = argparse.ArgumentParser(prog=f"python -m {REQUEST_MODULE}")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--home", default="")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--pulse", type=int, required=True)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--template", type=int)
    options = parser.parse_args(arguments)
    hide_process()
    bind_to_parent(options.parent)
    variables = json.loads(first_line())
    first_key = variables.pop(FIRST_KEY, None)
    settings = _named(variables.pop(PROCESS_NAME), settings_from(variables))
    watch_input()
    configure_service_logging(settings.log.level)
    if traces_are_wanted():
        configure_tracing("alphareel-api")
    template = None if options.template is None else socket.socket(fileno=options.template)
    children = Spares(
        SpareConfig(settings.storage.work, count=0, idle_seconds=math.inf, confined=settings.worker.confined),
        connection=template,
    )
    children.start()
    try:
        listener = socket.socket(fileno=options.listener)
        return api_server.run_request_process(settings, children, listener, first_key=first_key, pulse=options.pulse)
    except AlphareelError as error:
        get_logger(__name__).error("request process cannot start", error=str(error))
        return 1
    finally:
        children.stop()


def _named(process: str, settings: Settings) -> Settings:
    storage = settings.storage.model_copy(update={"process": process})
    return settings.model_copy(update={"storage": storage})


if __name__ == "__main__":
    sys.exit(main())
