"""What a server counts, as Prometheus reads it (text exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class _Histogram:
    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        place = next((i for i, edge in enumerate(self.edges) if value <= edge), len(self.edges))
        self.counts[place] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        found, seen = [], 0
        for edge, count in zip((*self.edges, "+Inf"), self.counts, strict=True):
            seen += count
            found.append(f'{name}_bucket{{{labels},le="{edge}"}} {seen}')
        return [
            *found,
            f"{name}_sum{{{labels}}} {self.total:.6f}",
            f"{name}_count{{{labels}}} {seen}",
        ]


class Metrics:
    """Counts of requests by route and status, how long they took, and batches of the workers.

    Routes are those that exist and "other", so that no client makes it grow.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: dict[str, _Histogram] = {}
        self._batches: dict[str, _Histogram] = {}
        self.gauges: dict[str, tuple[str, Callable[[], Mapping[str, float]]]] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds.setdefault(route, _Histogram(SECONDS)).add(seconds)

    def batch(self, worker: str, size: int) -> None:
        """Count a batch of a worker."""
        with self._lock:
            self._batches.setdefault(worker, _Histogram(SIZES)).add(size)

    def gauge(self, name: str, help_: str, ask: Callable[[], Mapping[str, float]]) -> None:
        """Add a number that is asked for when somebody reads; `ask` gives it by labels."""
        self.gauges[name] = (help_, ask)

    def text(self) -> str:
        """Return all of it."""
        lines = ["# HELP lift_requests_total Answers by route and status."]
        lines += ["# TYPE lift_requests_total counter"]
        with self._lock:
            for (method, route, status), count in sorted(self._requests.items()):
                labels = f'method="{method}",route="{route}",status="{status}"'
                lines.append(f"lift_requests_total{{{labels}}} {count}")
            for name, label, help_, found in (
                ("lift_request_seconds", "route", "Seconds until an answer.", self._seconds),
                ("lift_batch_size", "worker", "Requests that were one batch.", self._batches),
            ):
                lines += [f"# HELP {name} {help_}", f"# TYPE {name} histogram"]
                for key, histogram in sorted(found.items()):
                    lines += histogram.lines(name, f'{label}="{key}"')
        for name, (help_, ask) in self.gauges.items():
            lines += [f"# HELP {name} {help_}", f"# TYPE {name} gauge"]
            for labels, value in ask().items():
                lines.append(f"{name}{{{labels}}} {value:g}" if labels else f"{name} {value:g}")
        return "\n".join(lines) + "\n"


def resident() -> float:
    """Return the bytes of this process in memory, 0 where the system doesn't say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as status:
            pages = int(status.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    import resource

    return float(pages * resource.getpagesize())
