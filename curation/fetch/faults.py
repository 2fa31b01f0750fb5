"""What aiohttp and sockets raise, as verdicts. `http.py` calls it for every fault of a connection."""

from __future__ import annotations

import errno
import socket

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from curation.errors import RunError
from curation.fetch.guard import BlockedAddress
from curation.row import Reason, Verdict


def explain(error: Exception, progress: str) -> Verdict:
    """The verdict for `error`; `progress` says how far the answer had come.

    Raises RunError where this machine is at fault.
    """
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        raise RunError("too many open files: lower stages.fetch.run.concurrency or raise `ulimit -n`") from error
    if isinstance(cause, BlockedAddress):
        return Verdict(Reason.BLOCKED_ADDRESS, str(cause))
    detail = " ".join(f"{type(error).__name__}: {error}".split())  # aiohttp quotes what it could not parse
    match error:
        case aiohttp.ConnectionTimeoutError():
            return Verdict(Reason.TIMEOUT, "no connection within connect_timeout_s")
        case TimeoutError():
            return Verdict(Reason.TIMEOUT, progress)
        case aiohttp.ClientConnectorDNSError():
            return Verdict(Reason.DNS_ERROR, str(cause))
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return Verdict(Reason.TLS_ERROR, detail)
        case aiohttp.ClientConnectorError():
            return Verdict(Reason.CONNECT_ERROR, detail)
        case aiohttp.ClientConnectionError():
            return Verdict(Reason.CONNECTION_LOST, detail)
        case aiohttp.ClientPayloadError():
            return Verdict(Reason.CONNECTION_LOST, f"{progress}: {detail}")
        case aiohttp.InvalidURL():
            return Verdict(Reason.INVALID_URL, detail)
        case aiohttp.ClientError() | HttpProcessingError():
            return Verdict(Reason.PROTOCOL_ERROR, detail)
        case _:
            return Verdict(Reason.CONNECTION_LOST, detail)


def no_such_host(error: Exception) -> bool:
    """True where the name system says for certain that there is no such host, so that asking again is of no use."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorDNSError) else None
    return isinstance(cause, socket.gaierror) and cause.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
