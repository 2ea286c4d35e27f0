"""What the server counts and measures, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)
ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "captionless_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "captionless_request_seconds",
            "From the arrival of a request to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first_step = Histogram(
            "captionless_first_step_seconds",
            "From the arrival of a request to its first step.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter("captionless_images", "Images that were finished.", registry=self.registry)
        self.rows = Histogram("captionless_rows", "Rows per network call.", buckets=ROWS, registry=self.registry)
        self._queue = Gauge(
            "captionless_queue_images", "Images that are waiting or in progress.", registry=self.registry
        )

    def watch(self, queue: Callable[[], int]) -> None:
        """Read the length of the queue from a function."""
        self._queue.set_function(queue)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)
