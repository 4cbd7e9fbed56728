"""`python -m kai.sandbox`: run the sandbox server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from kai.sandbox.app import create_app
from kai.sandbox.cluster.cluster import Cluster
from kai.sandbox.cluster.replica import Settings
from kai.sandbox.cluster.server import serve_cluster
from kai.sandbox.sample import load_sample
from kai.sandbox.serving import HOST, serve
from kai.sandbox.store import VERSIONS, Store

BANNER = "Typesense-compatible sandbox for demonstrations and tests. Not a search engine for production."


@click.command(help=BANNER)
@click.option("--port", default=8108, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--api-key", required=True, help="The admin key.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that keeps the data.",
)
@click.option(
    "--typesense-version",
    type=click.Choice([str(version) for version in VERSIONS]),
    default=str(VERSIONS[-1]),
    show_default=True,
    help="The version of Typesense to behave as.",
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
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Nodes of a cluster, each on its own port.",
)
@click.option("--lag", default=0.5, show_default=True, help="Seconds after which a follower shows what was written.")
@click.option("--balancer", is_flag=True, help="One more port, which sends each request to the next living node.")
@click.option(
    "--election-seconds", default=7.5, show_default=True, help="How long a cluster that lost its leader has none."
)
@click.option(
    "--rejoin-seconds", default=6.0, show_default=True, help="How long a killed node answers 503 when started again."
)
def main(
    port: int,
    api_key: str,
    data_dir: Path,
    typesense_version: str,
    sample: bool,
    sample_num_dim: int,
    alter_seconds: float,
    lag_seconds: float | None,
    nodes: int,
    lag: float,
    balancer: bool,
    election_seconds: float,
    rejoin_seconds: float,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    print(BANNER, file=sys.stderr)
    version = int(typesense_version)
    if nodes > 1:
        settings = Settings(
            data_dir,
            api_key,
            alter_seconds,
            lag,
            election_seconds,
            rejoin_seconds,
            lag_seconds=lag_seconds or 0.0,
            version=version,
        )
        try:
            cluster = Cluster(nodes, settings, port=port)
        except OSError as error:
            raise _cannot_listen(port, error) from None
        _prepare(data_dir, sample_num_dim if sample else None, version)
        asyncio.run(serve_cluster(cluster, is_balanced=balancer))
        return
    app = create_app(data_dir, api_key, alter_seconds=alter_seconds, lag_seconds=lag_seconds, version=version)
    if sample and not app.state.store.collections:
        load_sample(app.state.store, num_dim=sample_num_dim)
    try:
        serve(app, app.state.store, port)
    except OSError as error:
        raise _cannot_listen(port, error) from None


def _prepare(data_dir: Path, sample_num_dim: int | None, version: int) -> None:
    """What is done to the log before several nodes have it open."""
    store = Store(data_dir, version=version)
    store.compact()
    if sample_num_dim is not None and not store.collections:
        load_sample(store, num_dim=sample_num_dim)
    store.close()


def _cannot_listen(port: int, error: OSError) -> click.ClickException:
    return click.ClickException(f"cannot listen on {HOST}:{port}: {error.strerror}")


if __name__ == "__main__":
    main()
