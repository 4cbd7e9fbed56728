"""`python -m kai.sandbox`: run the sandbox server."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import FrameType

import click
import uvicorn

from kai.sandbox.app import create_app
from kai.sandbox.sample import load_sample
from kai.sandbox.store import Store

HOST = "127.0.0.1"
SHUTDOWN_SECONDS = 2
BANNER = "Typesense-compatible sandbox for demonstrations and tests. Not a search engine for production."


class _SandboxServer(uvicorn.Server):
    """Says where it listens, once it does, and ends without an error when it is told to stop."""

    def __init__(self, config: uvicorn.Config, store: Store) -> None:
        super().__init__(config)
        self.store = store

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = sockets[0].getsockname()[1] if sockets else 0
        print(f"Sandbox listening on http://{HOST}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A slow schema change would otherwise hold up the end until its time is over.
        self.store.stopping.set()
        self.should_exit = True


@click.command(help=BANNER)
@click.option("--port", default=8108, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--api-key", required=True, help="The admin key.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that keeps the data.",
)
@click.option("--sample", is_flag=True, help="Load sample data if the folder is empty.")
@click.option("--sample-num-dim", default=128, show_default=True, help="Vector length in the sample schema.")
@click.option("--alter-seconds", default=0.0, help="How long a schema change of stored documents takes.")
@click.option(
    "--lag-seconds",
    type=float,
    default=None,
    help="How long to answer 503 after the start. [default: 0; after an interrupted change up to 1]",
)
def main(
    port: int,
    api_key: str,
    data_dir: Path,
    sample: bool,
    sample_num_dim: int,
    alter_seconds: float,
    lag_seconds: float | None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    print(BANNER, file=sys.stderr)
    app = create_app(data_dir, api_key, alter_seconds=alter_seconds, lag_seconds=lag_seconds)
    if sample and not app.state.store.collections:
        load_sample(app.state.store, num_dim=sample_num_dim)
    # The protocol is named because asyncio disables Nagle's algorithm only where it is; without that, every
    # answer waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # So that a killed server can come back on the same port at once.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        raise click.ClickException(f"cannot listen on {HOST}:{port}: {error.strerror}") from None
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
    _SandboxServer(config, app.state.store).run(sockets=[listener])


if __name__ == "__main__":
    main()
