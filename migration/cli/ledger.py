"""`kai-migrate ledger`: the ledger's schema by hand, and taking out of it what nothing needs any more."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import click

from migration.cli.options import age

Place = Callable[[], tuple[str | None, Path]]
"""What `ctx.obj` must be: a function that gives MIGRATION_LEDGER_URL, or None, and MIGRATION_HOME."""


class Refused(click.ClickException):
    """Refused before anything changed."""

    exit_code = 2


@click.group("ledger")
def command() -> None:
    """Look after the ledger: its schema, and what is in it.

    It is upgraded by itself when a run starts; these commands do so by hand. Before a SQLite ledger changes,
    its file is copied beside itself.
    """


@command.command("current")
@click.pass_obj
def current_command(place: Place) -> None:
    """Print the revision at which the ledger stands."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        standing = upgrade.current(resolve(*place()))
    if standing is None:
        click.echo("none")
    else:
        click.echo(f"{standing} (head)" if standing == upgrade.head() else standing)


@command.command("upgrade")
@click.argument("revision", default="head")
@click.pass_obj
def upgrade_command(place: Place, revision: str) -> None:
    """Bring the ledger up to REVISION, by default the newest."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        url = resolve(*place())
        upgrade.upgrade(url, revision)
        standing = upgrade.current(url)
    click.echo(f"The ledger stands at {standing or 'base'}.")


@command.command("downgrade")
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def downgrade_command(place: Place, revision: str, yes: bool) -> None:
    """Take the ledger back to REVISION, or to nothing with `base`. What only newer revisions hold is lost."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        url = resolve(*place())
    _confirm(f"Downgrade to {revision}, losing what only newer revisions hold?", yes=yes)
    with _refusing():
        upgrade.downgrade(url, revision)
        standing = upgrade.current(url)
    click.echo(f"The ledger stands at {standing or 'base'}.")


@command.command("sql")
@click.option(
    "--dialect",
    type=click.Choice(["sqlite", "postgresql"]),
    help="Whose SQL; by default that of the ledger's URL.",
)
@click.option("--from", "from_", default="base", show_default=True, help="Revision to begin at.")
@click.option("--to", default="head", show_default=True, help="Revision to end at; may lie before.")
@click.pass_obj
def sql_command(place: Place, dialect: str | None, from_: str, to: str) -> None:
    """Print the statements that lead from one revision to another, without executing them."""
    from migration.ledger import upgrade
    from migration.ledger.database import resolve

    with _refusing():
        name = dialect or resolve(*place()).get_backend_name()
        statements = upgrade.sql("sqlite" if name == "sqlite" else "postgresql", from_, to)
    click.echo(statements, nl=False)


@command.command("prune")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Spare the newest N runs.")
@click.option("--older-than", metavar="AGE", callback=age, help="Only runs begun longer ago: 90d, 12h; 90 is 90d.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def prune_command(place: Place, keep: int | None, older_than: timedelta | None, yes: bool) -> None:
    """Remove old runs for good: their records, their documents' failures and verdicts, and their backups.

    Says first what would go, and asks. A run stays that did not come to its end, or that must be taken back before
    one that stays can be; of a run whose vectors stand, the backup alone goes. Needs at least one of --keep and
    --older-than; given both, both must be met.
    """
    from migration.backup import BackupError
    from migration.ledger import Ledger
    from migration.operations.prune import prunable, prune
    from migration.strategies.refusals import Refused as Unusable

    with _refusing(BackupError, Unusable):
        url, home = place()
        with Ledger.open(url, home) as ledger:
            plan = prunable(ledger, home, keep=keep, older_than=older_than)
            for name, why in plan.spared.items():
                click.echo(f"Stays: {name}: {why}")
            for run in plan.runs:
                click.echo(f"Goes: {run.name} ({run.kind}, {run.started_at:%Y-%m-%d})")
            for backup in plan.backups:
                click.echo(f"Goes: backup {backup.folder} ({backup.bytes:,} bytes)")
            if not plan.runs and not plan.backups:
                click.echo("There is nothing to remove.")
                return
            what = f"{len(plan.runs)} runs and {len(plan.backups)} backups, {plan.bytes:,} bytes"
            _confirm(f"Remove {what}, for good?", yes=yes)
            done = prune(ledger, home, plan, keep=keep, older_than=older_than)
    click.echo(f"Removed {len(done.runs)} runs and {len(done.backups)} backups, {done.bytes:,} bytes.")


@command.command("delete-model")
@click.argument("model", metavar="MODEL")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_model_command(place: Place, model: str, yes: bool) -> None:
    """Remove a model that no document carries and no run in the ledger was for.

    MODEL is its name, with or without family and dimensions, or its fingerprint, as `kai-migrate models` lists them.
    A rollback to vectors of it no longer knows whose they are.
    """
    from migration.ledger import Ledger
    from migration.operations.prune import find_model
    from migration.strategies.refusals import Refused as Unusable

    with _refusing(Unusable), Ledger.open(*place()) as ledger:
        found = find_model(ledger, model)
        what = f"{found.family}/{found.model}/{found.dimensions} ({found.fingerprint})"
        _confirm(f"Remove the model {what}?", yes=yes)
        ledger.delete_model(found)
    click.echo(f"Removed the model {what}.")


def _confirm(question: str, *, yes: bool) -> None:
    """Ask, unless that was answered already; where nobody can answer, the answer is no."""
    if yes:
        return
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        raise Refused("not confirmed; give --yes to go on without being asked") from None


@contextlib.contextmanager
def _refusing(*others: type[Exception]) -> Iterator[None]:
    """Say in one line, with exit status 2, why the ledger cannot be used."""
    from migration.ledger.errors import LedgerError

    expected: tuple[type[Exception], ...] = (LedgerError, *others)
    try:
        yield
    except expected as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.filename or 'MIGRATION_HOME'}: {error.strerror or error}") from error
