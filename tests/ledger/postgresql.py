"""A private PostgreSQL server for the tests, where its programs are installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotAvailableError(Exception):
    """Why no server can be started."""


def free_port() -> int:
    """A port of the loopback interface on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: TEST_POSTGRESQL_URL, or one started for the time of the block.

    Raises NotAvailableError with the reason.
    """
    if given := os.environ.get("TEST_POSTGRESQL_URL"):
        yield given
        return
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not versions:
        raise NotAvailableError("PostgreSQL is not installed and TEST_POSTGRESQL_URL is not set")
    programs = versions[-1].parent
    owner = _owner()
    # Not pytest's own folder: others than its owner may not enter that one.
    folder = Path(tempfile.mkdtemp(prefix="ledger-postgresql-"))
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        yield from _serve(programs, folder, owner)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(programs: Path, folder: Path, owner: pwd.struct_passwd | None) -> Iterator[str]:
    data, port = folder / "data", free_port()
    _run(owner, folder, programs / "initdb", "--auth=trust", "--username=test", "--encoding=UTF8",
         "--no-sync", "--no-locale", "--pgdata", data)  # fmt: skip
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off -c unix_socket_directories={folder}"
    try:
        _run(owner, folder, programs / "pg_ctl", "start", "--wait", "--timeout=20", "--pgdata", data,
             "--log", folder / "log", "--options", options)  # fmt: skip
        yield f"postgresql://test@127.0.0.1:{port}/postgres"
    finally:
        _run(owner, folder, programs / "pg_ctl", "stop", "--mode=immediate", "--pgdata", data, check=False)


def _owner() -> pwd.struct_passwd | None:
    """Whom to run the server as: nobody special unless the tests run as root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotAvailableError("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _run(owner: pwd.struct_passwd | None, folder: Path, *command: object, check: bool = True) -> None:
    rights = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server runs
        stderr=(folder / "errors").open("w"),
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LC_ALL": "C"},
        check=False,
        **rights,  # type: ignore[call-overload]
    )
    if check and result.returncode:
        raise NotAvailableError(f"{command[0]} failed: {(folder / 'errors').read_text()[-500:]}")
