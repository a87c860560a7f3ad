"""Serve the API: ``python -m retort_api``; ``openapi`` prints the OpenAPI document.

``client-types FOLDER`` writes the types of the client's answers; ``rotate-links`` makes all signed download addresses
invalid.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from retort.confinement import hide_environment
from retort.files import make_private
from retort.logs import configure
from retort.settings import Settings

from retort_api import client_types
from retort_api.app import create_app
from retort_api.connections import allow_open_files, server_config
from retort_api.deps import AppState
from retort_api.links import LinkSigner

GRACE_S = 3
"""How long answers under way may take once the server stops."""


class Server(uvicorn.Server):
    """Uvicorn server that closes open streams when a stop is requested.

    Uvicorn alone would wait for the clients of the streams to leave.
    """

    def __init__(self, config: uvicorn.Config, service: AppState) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a stop signal; streams end, then uvicorn shuts down."""
        self._service.stopping.set()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve the API, or do what the argument names."""
    if sys.argv[1:] == ["openapi"]:
        sys.stdout.write(json.dumps(create_app(Settings()).openapi(), indent=2) + "\n")
    elif sys.argv[1:2] == ["client-types"] and len(sys.argv) == 3:
        client_types.write(create_app(Settings()).openapi(), Path(sys.argv[2]))
    elif sys.argv[1:] == ["rotate-links"]:
        LinkSigner(Settings().home).rotate()
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        serve(Settings())


def serve(settings: Settings) -> None:
    """Serve the API with *settings* until a signal arrives."""
    configure(as_json=settings.log_json)
    hide_environment()
    make_private(settings.home)
    app = create_app(settings)
    allow_open_files(settings.max_connections)
    config = server_config(app, settings, host=settings.host, port=settings.port, timeout_graceful_shutdown=GRACE_S)
    # What has been made by now lives as long as the process: looking through it again and again stalls requests.
    gc.collect()
    gc.freeze()
    # uvicorn raises the signal anew after its shutdown; having been asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt):
        Server(config, app.state.service).run()


if __name__ == "__main__":
    main()
