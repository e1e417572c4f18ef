"""Metrics for Prometheus, from what a process counts and remembers anyway: nothing is added to it.

    from prometheus_client import REGISTRY
    REGISTRY.register(collector())

`FAMILIES` has every name there is, with its labels; the playbook 56-serve is tested against it.
A label's values come from the settings or from tables of ours: clients name themselves, so none is
a label.

Each process speaks for itself. Behind a prefork server a scrape meets one worker; what the whole
fleet saw is in `migrator status --json`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from migrator import wiring
from migrator.core.meters import BOUNDS
from migrator.core.phases import ORDER
from migrator.settings import Settings

Labels = tuple[str, ...]

FAMILIES: Final[Mapping[str, tuple[Labels, str]]] = {
    "migrator_verdicts_total": (
        ("verdict", "reason", "issuer", "phase"),
        "Credentials judged: admitted, refused, passed on to the app, foreign; and why.",
    ),
    "migrator_issued_total": (
        ("kind", "issuer", "phase"),
        "Credentials issued: session, legacy, exchanged; elsewhere: by a route nobody configured.",
    ),
    "migrator_late_legacy_total": (
        ("issuer", "phase"),
        "Legacy tokens issued after the drain took effect, by a signer that the shim cannot see.",
    ),
    "migrator_events_total": (
        ("event", "issuer", "phase"),
        "Whatever else is counted, by the name it has in legacy_usage.",
    ),
    "migrator_phase": (("phase",), "1 for the phase this process acts under, 0 for the others."),
    "migrator_epoch": ((), "The number of the rollout decision this process acts under."),
    "migrator_swap_percent": ((), "The share of subjects whose legacy tokens are swapped."),
    "migrator_phase_since_seconds": ((), "When the rollout entered its phase, in Unix time."),
    "migrator_memory_entries": ((), "Verdicts remembered."),
    "migrator_memory_trusted": ((), "1 while the feed vouches for memory; 0 asks the stores."),
    "migrator_cache_lookups_total": (
        ("result",),
        "Answers of Redis: found, absent (or not to be asked), tombstone.",
    ),
    "migrator_store_seconds": ((), "Round trips to Postgres, waiting for a connection included."),
    "migrator_store_failures_total": ((), "Round trips that ended without an answer."),
    "migrator_last_issued_seconds": (
        (),
        "When this process last issued a legacy token, in Unix time; absent: never.",
    ),
    "migrator_node_info": (("version", "environment", "app"), "1, with what this process is."),
}

_ADMITTED: Final = frozenset({"session", "legacy", "swapped"})
_VERDICTS: Final = frozenset({"refused", "passed", "foreign"})
_UNKNOWN: Final = "unknown"
_Row = tuple[Labels, float]


def collector(settings: Settings | None = None) -> Collector:
    """What this process counts, for any registry of prometheus-client.

    Args:
        settings: those of `migrator.toml` and `MIGRATOR_*` unless given; with the same settings as
            the middleware's, the same counts.
    """
    return _Vitals(wiring.settings_of(settings))


class _Vitals(Collector):
    def __init__(self, settings: Settings) -> None:
        self._node, self._meters = wiring.vitals(settings)
        self._info = (version("jwt-way-out"), settings.environment, settings.app)
        self._lock = threading.Lock()
        self._era = self._node.usage.era
        self._seen: dict[tuple[str, str], int] = {}
        self._booked: dict[tuple[str, str, str], int] = {}

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not collect."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Every family, those without a value left out."""
        counted = self._counted()
        for name, rows in (*counted.items(), *self._standing().items()):
            yield _family(name, rows)
        yield self._timing()

    # What was counted.

    def _counted(self) -> dict[str, list[_Row]]:
        """The tallies, booked under the phase in which they were first collected."""
        families: dict[str, dict[Labels, float]] = {
            name: {} for name in ("verdicts", "issued", "late_legacy", "events")
        }
        for (issuer, outcome, phase), count in self._book().items():
            family, label = _sorted(outcome)
            labels = (*label, issuer, phase)
            rows = families[family]
            rows[labels] = rows.get(labels, 0) + count
        return {f"migrator_{name}_total": [*rows.items()] for name, rows in families.items()}

    def _book(self) -> dict[tuple[str, str, str], int]:
        usage, rollout = self._node.usage, self._node.rollout
        phase = _UNKNOWN if rollout is None else str(rollout.phase)
        with self._lock:
            if usage.era != self._era:  # a forked child counts from nothing
                self._era, self._seen, self._booked = usage.era, {}, {}
            for (issuer, outcome), total in usage.totals().items():
                new = total - self._seen.get((issuer, outcome), 0)
                if new > 0:  # a sum taken while the pulse tidies up may lag, and never goes back
                    self._seen[issuer, outcome] = total
                    at = issuer, outcome, phase
                    self._booked[at] = self._booked.get(at, 0) + new
            return dict(self._booked)

    # How it stands.

    def _standing(self) -> dict[str, list[_Row]]:
        node, cache, store = self._node, self._meters.cache, self._meters.store
        recent, rollout = node.recent, node.rollout
        rows: dict[str, list[_Row]] = {
            "migrator_memory_entries": [((), len(recent))],
            "migrator_memory_trusted": [((), node.clock.ticks() < recent.trusted_until)],
            "migrator_cache_lookups_total": [
                (("found",), cache.found),
                (("absent",), cache.absent),
                (("tombstone",), cache.tombstones),
            ],
            "migrator_store_failures_total": [((), store.failures)],
            "migrator_node_info": [(self._info, 1)],
        }
        if rollout is not None:
            rows |= {
                "migrator_phase": [((str(each),), each is rollout.phase) for each in ORDER],
                "migrator_epoch": [((), rollout.epoch)],
                "migrator_swap_percent": [((), rollout.percent)],
                "migrator_phase_since_seconds": [((), rollout.since.timestamp())],
            }
        issued_at = node.usage.last_issued_at
        if issued_at is not None:
            rows["migrator_last_issued_seconds"] = [((), issued_at.timestamp())]
        return rows

    def _timing(self) -> Metric:
        name, timing = "migrator_store_seconds", self._meters.store
        counts = list(timing.counts)
        buckets = [(str(bound), float(sum(counts[: at + 1]))) for at, bound in enumerate(BOUNDS)]
        buckets.append(("+Inf", float(sum(counts))))
        _, words = FAMILIES[name]
        return HistogramMetricFamily(name, words, buckets=buckets, sum_value=timing.seconds)


def _sorted(outcome: str) -> tuple[str, Labels]:
    """The family and first labels of an outcome, as `usage.What` names them."""
    kind, _, rest = outcome.partition(":")
    if outcome in _ADMITTED:
        return "verdicts", ("admitted", outcome)
    if kind in _VERDICTS:
        return "verdicts", (kind, rest)
    if kind == "issued" or outcome == "exchanged":
        return "issued", (rest or outcome,)
    return ("late_legacy", ()) if outcome == "late" else ("events", (outcome,))


def _family(name: str, rows: list[_Row]) -> Metric:
    labels, words = FAMILIES[name]
    made: CounterMetricFamily | GaugeMetricFamily
    if name.endswith("_total"):
        made = CounterMetricFamily(name.removesuffix("_total"), words, labels=labels)
    else:
        made = GaugeMetricFamily(name, words, labels=labels)
    for values, number in rows:
        made.add_metric(values, float(number))
    return made
