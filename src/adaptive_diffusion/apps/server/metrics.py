"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

__all__ = ["Metrics"]

_PREFIX = "adaptive_diffusion_"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_REQUESTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    """Counts, gauges and histograms of one server, in a registry of its own."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        ProcessCollector(registry=registry)  # memory and processor time
        self.requests = Counter(
            _PREFIX + "requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            _PREFIX + "request_seconds",
            "From a request's arrival to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.queued = Gauge(_PREFIX + "queued_pictures", "Pictures waiting.", registry=registry)
        self.running = Gauge(_PREFIX + "running_pictures", "Pictures in work.", registry=registry)
        self.pictures = Counter(
            _PREFIX + "pictures", "Pictures, by how it ended.", ["model", "end"], registry=registry
        )
        self.picture_seconds = Histogram(
            _PREFIX + "picture_seconds",
            "From the start of a picture's work to its end.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.nfe = Counter(
            _PREFIX + "nfe", "Denoiser evaluations of pictures.", ["model"], registry=registry
        )
        self.nfe_saved = Counter(
            _PREFIX + "nfe_saved",
            "Steps that called no denoiser.",
            ["model"],
            registry=registry,
        )
        self.batch = Histogram(
            _PREFIX + "denoiser_call_requests",
            "Pictures that shared a denoiser call.",
            buckets=_REQUESTS,
            registry=registry,
        )

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
