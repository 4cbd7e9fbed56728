"""Options that cannot be kept to, or have no meaning in what is planned: refused, or told."""

from __future__ import annotations

from dataclasses import replace

from kai.typesense import Typesense, TypesenseError
from migration.operations.setup import Session
from migration.runtime import hooks
from migration.runtime.hooks import Hooks
from migration.strategies.context import MigrationOptions
from migration.strategies.moment import has_moment
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.refusals import Refused


def refuse_unusable_options(server: Typesense, options: MigrationOptions) -> None:
    """Refuse options that cannot be kept to on this server, or at all.

    Raises:
        Refused: naming each.
    """
    problems = hooks.find_problems(options.hooks) if options.hooks is not None else []
    if options.hold is not None and options.rehearse:
        problems.append("--hold, --rehearse: a rehearsal ends where the other holds; give one of them")
    if options.max_load:
        problems += _unwatched(server, options)
    if problems:
        raise Refused(*problems)


def refuse_without_moment(plan: Plan, options: MigrationOptions, *, resumes: bool) -> None:
    """Refuse to hold, or to rehearse, where nothing is built beside what serves.

    Args:
        plan: what is to be done.
        options: what is asked for.
        resumes: whether an earlier run is gone on with, which may be past the point where it would hold.

    Raises:
        Refused: no collection has a point of no return; or one is past it, and must be finished before a rehearsal.
    """
    if options.hold is None and not options.rehearse:
        return
    items = [item for item in plan.collections if item.strategy != "skipped"]
    option = "--rehearse" if options.rehearse else "--hold"
    if options.rehearse and (
        begun := [item.name for item in items if item.strategy not in ("in place", "into") and not has_moment(item)]
    ):
        raise Refused(
            f"--rehearse: {', '.join(map(repr, begun))}: a run died past its point of no return, and must be finished "
            "before anything is rehearsed; run again without --rehearse"
        )
    if items and not any(map(has_moment, items)) and (options.rehearse or not resumes):
        names = ", ".join(repr(item.name) for item in items)
        if all(item.strategy == "into" for item in items):
            raise Refused(
                f"{option}: {names} gets a second field beside the one that serves, which stays until `kai-migrate "
                "finish`; --follow keeps the new one abreast until then"
            )
        raise Refused(
            f"{option}: {names} would be migrated in place, where nothing is built beside what serves and there is no "
            "moment to wait for; --limit or --until writes a part of it, and --strategy rebuild has a moment"
        )


def with_notes(plan: Plan, options: MigrationOptions) -> Plan:
    """The plan, with a word on options that do nothing in it."""
    items = tuple(
        item if item.strategy == "skipped" else replace(item, hazards=(*_idle(item, options), *item.hazards))
        for item in plan.collections
    )
    folder = options.hooks
    unknown = hooks.unknown_names(folder) if folder is not None else []
    notes = [
        f"--hooks: {folder} has {', '.join(unknown)}, which no moment is called; there are {', '.join(hooks.NAMES)}"
    ] * bool(unknown)
    return replace(plan, collections=items, hazards=(*notes, *plan.hazards))


def hooks_of(session: Session, plan: Plan) -> Hooks:
    """The hooks of a migration, which know everything but the run."""
    options, embedding, console = session.options, session.settings.embedding, session.console
    return Hooks(options.hooks, options.hook_timeout, console.warn, console.detail).knowing(
        server=session.server.url,
        collections=",".join(item.name for item in plan.collections if item.strategy != "skipped"),
        embedding_family=embedding.family,
        embedding_model=embedding.model,
        embedding_dimensions=embedding.dimensions,
    )


def _unwatched(server: Typesense, options: MigrationOptions) -> list[str]:
    """Figures that the server does not give, or not to this key."""
    try:
        figures = server.stats()
    except TypesenseError as error:
        remedy = "use a key with stats.json:list, or leave" if error.unauthorized else "leave"
        return [f"--max-load: the server does not give its figures ({error}); {remedy} --max-load out"]
    return [f"--max-load: this server gives no figure {name!r}" for name in options.max_load if name not in figures]


def _idle(plan: CollectionPlan, options: MigrationOptions) -> list[str]:
    notes: list[str] = []
    if options.keep_old and plan.strategy != "recreate":
        notes.append("--keep-old has no effect: the collection is not recreated, so there is no previous one to keep")
    if options.hold is not None and not has_moment(plan):
        is_without = plan.strategy in ("in place", "into")
        why = "this way has no point of no return" if is_without else "it is past its moment"
        notes.append(f"--hold has no effect: {why}")
    return notes
