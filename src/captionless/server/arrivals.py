"""What a client may hold: connections, and requests whose body is on its way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from uvicorn.protocols.http.h11_impl import H11Protocol

from captionless.server.errors import ApiError, stopping

SECONDS = 60.0
"""Seconds within which a request must have been received."""
HEAD_SECONDS = 10.0
"""Seconds within which the head of the first request of a connection must have been received."""
READ_SECONDS = 30.0
"""Seconds within which a client must have read something of an answer that waits for it."""
MOST_CONNECTIONS = 256
"""Connections of one address. A reverse proxy opens one for each request."""


class Connection(H11Protocol):
    """A connection, which is closed if its address has too many, if no request comes, or if no answer is read."""

    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless the address has too many connections."""
        super().connection_made(transport)
        same = [one for one in self.connections if isinstance(one, Connection) and one.address == self.address]
        if len(same) > MOST_CONNECTIONS:
            transport.close()
        self.loop.call_later(HEAD_SECONDS, self._close_unless_asked)

    @property
    def address(self) -> str | None:
        """The address of the other side; None if that has none."""
        return self.client and self.client[0]

    def pause_writing(self) -> None:
        """Wait until the other side has read, and watch whether it does."""
        super().pause_writing()
        self._abort_unless_read(0)

    def resume_writing(self) -> None:
        """Go on to write."""
        super().resume_writing()
        if self._reading:
            self._reading.cancel()

    def _abort_unless_read(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left == before:
            self.transport.abort()  # to close it would wait for the other side to read
        elif self.flow.write_paused:
            self._reading = self.loop.call_later(READ_SECONDS, self._abort_unless_read, left)

    def _close_unless_asked(self) -> None:
        if self.cycle is None:
            self.transport.close()


class Arrivals:
    """The requests whose body has not arrived. They hold no place in the queue; here, they are limited.

    Args:
        most: how many there may be. One address may have half of them, so that those who send slowly hold up nobody
            else.
    """

    def __init__(self, most: int) -> None:
        self._most, self._stopped = most, False
        self._addresses: Counter[str] = Counter()
        self._limits: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def receiving(self, address: str) -> AsyncIterator[None]:
        """Limit the time in which a body is received.

        Raises:
            ApiError: too many are on their way (429), it took too long (408), or the server stops (503).
        """
        if len(self._limits) >= self._most or self._addresses[address] >= self._most // 2:
            raise ApiError(
                429,
                "too many requests are being received. Try again in a second.",
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                headers={"Retry-After": "1"},
            )
        limit = asyncio.timeout(SECONDS)
        self._limits.add(limit)
        self._addresses[address] += 1
        try:
            async with limit:
                yield
        except TimeoutError as error:
            late = ApiError(408, f"the request did not arrive within {SECONDS:.0f} seconds.")
            raise (stopping() if self._stopped else late) from error
        finally:
            self._limits.discard(limit)
            self._addresses -= Counter([address])  # keeps no addresses without requests

    def abandon(self) -> None:
        """Answer all whose body has not arrived with status 503."""
        self._stopped = True
        for limit in self._limits:
            with suppress(RuntimeError):  # it expires just now
                limit.reschedule(0)
