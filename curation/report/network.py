"""What fetch met: bytes, statuses, times and the hosts that failed most. One aggregate query each."""

from __future__ import annotations

from curation.report.distributions import Measure, count_bins
from curation.report.facts import Histogram, HostFacts, NetworkFacts
from curation.report.tables import StageTable, Tables

TOP_HOSTS = 12
HOST_SQL = r"lower(regexp_extract(url, '^[^:/?#]+://(?:[^/?#@]*@)?(\[[^\]/?#]*\]|[^:/?#\\]*)', 1))"
"""The host of a URL, without user and port; empty where there is none."""

_ELAPSED = Measure("elapsed", "Time of a row", "ms", "elapsed_ms", ("elapsed_ms",), 1, 2**17, 34, log=True)


def network(tables: Tables, fetch: StageTable) -> NetworkFacts:
    """Sums over the fetch stage."""
    if not {"bytes_received", "bytes_saved", "tries", "status", "elapsed_ms", "url"} <= fetch.columns:
        return NetworkFacts()
    ((received, saved, stopped, tries, hosts),) = tables.query(
        "SELECT coalesce(sum(bytes_received), 0), coalesce(sum(bytes_saved), 0), "
        "count(*) FILTER (bytes_saved > 0), coalesce(sum(tries), 0), "
        f"count(DISTINCT {HOST_SQL}) FILTER ({HOST_SQL} <> '') FROM {fetch.view}"
    )
    statuses = tables.query(
        f"SELECT status, count(*) FROM {fetch.view} WHERE status IS NOT NULL GROUP BY status ORDER BY 2 DESC, 1"
    )
    elapsed = count_bins(tables, _ELAPSED, fetch, "elapsed_ms IS NOT NULL AND tries > 0")
    return NetworkFacts(
        received=int(received),
        saved=int(saved),
        stopped_early=stopped,
        tries=int(tries),
        statuses=tuple((status, count) for status, count in statuses),
        elapsed=_elapsed(elapsed) if sum(elapsed) else None,
        hosts=_hosts(tables, fetch),
        host_count=hosts,
    )


def _elapsed(counts: tuple[int, ...]) -> Histogram:
    return Histogram(_ELAPSED.key, _ELAPSED.title, _ELAPSED.unit, True, _ELAPSED.edges, counts, counts)


def _hosts(tables: Tables, fetch: StageTable) -> tuple[HostFacts, ...]:
    worst = tables.query(
        f"SELECT {HOST_SQL} AS host, count(*), count(*) FILTER (outcome = 'kept'), "
        f"count(*) FILTER (outcome = 'failed') AS failed FROM {fetch.view} "
        "GROUP BY host HAVING failed > 0 AND host <> '' ORDER BY failed DESC, host LIMIT ?",
        [TOP_HOSTS],
    )
    reasons = tables.query(
        f"SELECT {HOST_SQL} AS host, reason, count(*) FROM {fetch.view} "
        f"WHERE outcome = 'failed' AND {HOST_SQL} IN (SELECT unnest(?::VARCHAR[])) "
        "GROUP BY host, reason ORDER BY 3 DESC, 2",
        [[host for host, *_ in worst]],
    )
    first: dict[str, str] = {}
    for host, reason, _ in reasons:
        first.setdefault(host, reason)
    return tuple(HostFacts(host, rows, kept, failed, first[host]) for host, rows, kept, failed in worst)
