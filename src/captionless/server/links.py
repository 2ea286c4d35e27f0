"""Keep images for the clients that ask for a URL, for an hour at most."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict

SECONDS = 3600.0
MOST_BYTES = 256_000_000


class Links:
    """Images in memory, under names that cannot be guessed. Beyond 256 MB, the oldest are dropped."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, str, bytes]] = OrderedDict()
        self._bytes = 0

    def add(self, data: bytes, kind: str) -> str:
        """Keep the content of an image file, whose media type is ``kind``, and return its name."""
        name = secrets.token_urlsafe(24)
        self._kept[name] = time.monotonic(), kind, data
        self._bytes += len(data)
        while self._kept and (self._bytes > MOST_BYTES or self._oldest() < time.monotonic() - SECONDS):
            self._bytes -= len(self._kept.popitem(last=False)[1][2])
        return name

    def get(self, name: str) -> tuple[str, bytes] | None:
        """Return media type and content, or None if there is no such image any more."""
        kept = self._kept.get(name)
        return kept[1:] if kept and kept[0] >= time.monotonic() - SECONDS else None

    def _oldest(self) -> float:
        return next(iter(self._kept.values()))[0]
