"""A TCP connection to a server that can be cut, silent or slow while the server itself is well."""

import asyncio
import contextlib
import threading
from typing import Literal

State = Literal["open", "cut", "silent", "slow"]

DELAY = 0.2  # seconds that each piece of data takes on a slow link
_PIECE = 65536


class FaultyLink:
    """Listens on ``port`` of 127.0.0.1 and forwards connections to ``target``, another port of it.

    States: ``open`` forwards at once. ``cut`` breaks all connections and accepts none. ``silent`` forwards nothing,
    and what was sent meanwhile later: connections hang. ``slow`` delays each piece of data by DELAY.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._state: State = "open"
        self._heard = asyncio.Event()
        self._heard.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = starting.result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, state: State) -> None:
        """Change the state of this link and of its connections."""
        asyncio.run_coroutine_threadsafe(self._set(state), self._loop).result()

    def close(self) -> None:
        """Break all connections and stop listening."""

        async def end() -> None:
            self._server.close()
            await self._set("cut")
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _set(self, state: State) -> None:
        self._state = state
        if state == "silent":
            self._heard.clear()
        else:
            self._heard.set()
        if state == "cut":
            for writer in self._writers:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "cut":
            writer.transport.abort()
            return
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far_writer)
            await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
            self._writers.discard(far_writer)
        self._writers.discard(writer)
        writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(_PIECE):
                if self._state == "slow":
                    await asyncio.sleep(DELAY)
                await self._heard.wait()
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()
