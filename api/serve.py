"""The API's process: TLS, timeouts and descriptors.

``python -m api.serve`` reads FEDMED_API_HOST, FEDMED_TLS_CERT and the like beside the API's own
settings. A certificate that is replaced on the disk is taken up without a restart.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import suppress
from typing import Final

import uvicorn

from api.certificates import Certificate, CertificateUnusable
from api.serving import ServingSettings, ServingUnsafe, require_safe

# Longer than a long poll and its pause, so that a hospital's connection is there for the next one,
# and than the minute after which most proxies let go of theirs.
KEEP_ALIVE_S: Final = 90
# Thousands of hospitals come back at once when the coordinator has been restarted; the kernel's own
# limit (net.core.somaxconn) counts when it is less.
BACKLOG: Final = 4096
GRACEFUL_STOP_S: Final = 2
_START_FAILED: Final = 3
_USAGE_ERROR: Final = 2


def configuration(settings: ServingSettings, certificate: Certificate | None) -> uvicorn.Config:
    """Returns how uvicorn serves the API."""
    return uvicorn.Config(
        "api.app:app_from_environment",
        factory=True,
        host=settings.api_host,
        port=settings.api_port,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context,
        # uvicorn believes what this machine's clients say of themselves unless told otherwise.
        proxy_headers=settings.behind_proxy,
        forwarded_allow_ips=settings.proxies,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
        backlog=BACKLOG,
        # Unless asked for: lines of requests hold query strings, and so codes and tokens sent by
        # mistake; those of websockets come at the level "info".
        access_log=settings.access_log,
        log_level="info" if settings.access_log else "warning",
    )


async def serve(server: uvicorn.Server, certificate: Certificate | None) -> None:
    """Serves until a signal ends it."""
    # No task group: uvicorn ends the process by SystemExit, which a group would wrap.
    following = None if certificate is None else asyncio.create_task(certificate.follow())
    try:
        await server.serve()
    finally:
        if following is not None:
            following.cancel()


def raise_descriptor_limit() -> int:
    """Allows as many open connections as the system lets this process have; returns that number.

    Every long poll holds one descriptor, and the usual limit is 1024.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def main() -> int:
    """Serves the API; returns the process's exit code."""
    settings = ServingSettings()
    try:
        require_safe(settings)
        certificate = None if settings.tls is None else Certificate(*settings.tls)
    except (ServingUnsafe, CertificateUnusable) as error:
        print(f"api: {error}", file=sys.stderr)
        return _USAGE_ERROR
    raise_descriptor_limit()
    config = configuration(settings, certificate)
    server = uvicorn.Server(config)
    with (
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(serve(server, certificate))
    return 0 if server.started else _START_FAILED


if __name__ == "__main__":
    sys.exit(main())
