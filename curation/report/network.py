"""What fetch met: bytes, statuses, times and the hosts that failed most. One aggregate query each."""

from __future__ import annotations

from curation.report.distributions import Measure, count_bins
from curation.report.facts import HostFacts, NetworkFacts
from curation.report.shapes import Histogram
from curation.report.tables import StageTable, Tables

TOP_HOSTS = 12
# The part of a URL between `//` and the next `/` is cheap to cut out of millions of them; user, port and what else may
# stand there is taken off the few that are left.
_AUTHORITY = "split_part(split_part(url, '://', 2), '/', 1)"
_HOST = r"lower(regexp_extract(authority, '^(?:[^?#@]*@)?(\[[^\]?#]*\]|[^:?#\\]*)', 1))"

_ELAPSED = Measure("elapsed", "Time of a row", "ms", "elapsed_ms", ("elapsed_ms",), 1, 2**17, 34, log=True)


def network(tables: Tables, fetch: StageTable) -> NetworkFacts:
    """Sums over the fetch stage."""
    if not {"bytes_received", "bytes_saved", "tries", "status", "elapsed_ms", "url"} <= fetch.columns:
        return NetworkFacts()
    ((received, saved, stopped, tries),) = tables.query(
        "SELECT coalesce(sum(bytes_received), 0)::BIGINT, coalesce(sum(bytes_saved), 0)::BIGINT, "
        f"count(*) FILTER (bytes_saved > 0), coalesce(sum(tries), 0)::BIGINT FROM {fetch.view}"
    )
    hosts, worst = _hosts(tables, fetch)
    statuses = tables.query(
        f"SELECT status, count(*) FROM {fetch.view} WHERE status IS NOT NULL GROUP BY status ORDER BY 2 DESC, 1"
    )
    elapsed = count_bins(tables, _ELAPSED, fetch, "elapsed_ms IS NOT NULL AND tries > 0")
    return NetworkFacts(
        received=received,
        saved=saved,
        stopped_early=stopped,
        tries=tries,
        statuses=tuple((status, count) for status, count in statuses),
        elapsed=_elapsed(elapsed) if sum(elapsed) else None,
        hosts=worst,
        host_count=hosts,
    )


def _elapsed(counts: tuple[int, ...]) -> Histogram:
    return Histogram(_ELAPSED.key, _ELAPSED.title, _ELAPSED.unit, True, _ELAPSED.edges, counts, counts)


def _hosts(tables: Tables, fetch: StageTable) -> tuple[int, tuple[HostFacts, ...]]:
    """Number of hosts, and those that failed most."""
    tables.query(
        f"CREATE OR REPLACE TEMP TABLE hosts AS SELECT {_HOST} AS host, reason, outcome, sum(n)::BIGINT AS n FROM ("
        f"SELECT {_AUTHORITY} AS authority, reason, outcome, count(*) AS n FROM {fetch.view} GROUP BY ALL"
        ") GROUP BY ALL"
    )
    ((number,),) = tables.query("SELECT count(DISTINCT host) FROM hosts WHERE host <> ''")
    worst = tables.query(
        "SELECT host, sum(n)::BIGINT, coalesce(sum(n) FILTER (outcome = 'kept'), 0)::BIGINT, "
        "coalesce(sum(n) FILTER (outcome = 'failed'), 0)::BIGINT AS failed FROM hosts WHERE host <> '' "
        f"GROUP BY host HAVING failed > 0 ORDER BY failed DESC, host LIMIT {TOP_HOSTS}"
    )
    reasons = tables.query(
        "SELECT host, reason, n FROM hosts WHERE outcome = 'failed' AND host IN (SELECT unnest(?::VARCHAR[])) "
        "ORDER BY n DESC, reason",
        [[host for host, *_ in worst]],
    )
    first: dict[str, str] = {}
    for host, reason, _ in reasons:
        first.setdefault(host, reason)
    return number, tuple(HostFacts(host, rows, kept, failed, first[host]) for host, rows, kept, failed in worst)
