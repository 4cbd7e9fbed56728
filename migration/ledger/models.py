"""The part of the ledger about embedding models."""

from sqlalchemy import Text, cast, func, or_, select

from migration.ledger.records import CollectionUse, ModelRecord, ModelUse
from migration.ledger.schema import document_collections, document_embeddings, embedding_models
from migration.ledger.store import Store, alone, insert, new_id, next_number, now, record_of, records


class Models(Store):
    """Which models were used, and where their vectors stand."""

    def register_model(
        self,
        *,
        family: str,
        model: str,
        dimensions: int,
        fingerprint: str,
        task_type: str | None = None,
        tool_source: str | None = None,
        tool_version: str | None = None,
        provider_server: str | None = None,
        model_digest: str | None = None,
    ) -> ModelRecord:
        """Note that a model is used now, and return its record: new, or the known one of that fingerprint.

        A digest that the server does not tell this time stays what it was.
        """
        moment = now()
        with self._writing() as connection:
            alone(connection, embedding_models)
            statement = insert(connection.dialect, embedding_models).values(
                id=new_id(),
                number=next_number(embedding_models),
                family=family,
                model=model,
                dimensions=dimensions,
                fingerprint=fingerprint,
                task_type=task_type,
                tool_source=tool_source,
                tool_version=tool_version,
                provider_server=provider_server,
                model_digest=model_digest,
                first_used_at=moment,
                last_used_at=moment,
            )
            latest = ("tool_source", "tool_version", "provider_server", "last_used_at")
            digest = func.coalesce(statement.excluded.model_digest, embedding_models.c.model_digest)
            upsert = statement.on_conflict_do_update(
                index_elements=["fingerprint"],
                set_={name: statement.excluded[name] for name in latest} | {"model_digest": digest},
            )
            return record_of(ModelRecord, connection.execute(upsert.returning(embedding_models)).one())

    def find_model(self, fingerprint_or_id: str) -> ModelRecord | None:
        """The model with that fingerprint or id."""
        columns = embedding_models.c
        named = or_(columns.fingerprint == fingerprint_or_id, cast(columns.id, Text) == fingerprint_or_id)
        return next(iter(self._read(ModelRecord, select(embedding_models).where(named))), None)

    def find_models(self, words: str) -> list[ModelRecord]:
        """The models that these words name: `model`, `family/model`, `family/model/dimensions`, or a fingerprint."""
        columns = embedding_models.c
        full = columns.family + "/" + columns.model
        dimensions = cast(columns.dimensions, Text)
        spellings = (columns.model, full, full + "/" + dimensions, columns.fingerprint)
        return self._read(ModelRecord, select(embedding_models).where(or_(*(each == words for each in spellings))))

    def models(self) -> list[ModelUse]:
        """All models, the last used one first, with how many documents of which collections carry each."""
        columns = document_embeddings.c
        # Counted before the names are joined, so that the count runs over the index alone.
        counts = (
            select(columns.model_number, columns.collection_id, func.count().label("documents"))
            .where(columns.model_number.is_not(None))
            .group_by(columns.model_number, columns.collection_id)
            .subquery()
        )
        places = document_collections.c
        named = (
            select(embedding_models.c.id, places.source, places.collection, counts.c.documents, places.field)
            .join(counts, counts.c.model_number == embedding_models.c.number)
            .join(document_collections, counts.c.collection_id == places.id)
            .order_by(places.source, places.collection, places.id)
        )
        uses: dict[str, list[CollectionUse]] = {}
        with self._reading() as connection:
            for model_id, *use in connection.execute(named):
                uses.setdefault(model_id, []).append(CollectionUse(*use))
            latest_first = (embedding_models.c.last_used_at.desc(), embedding_models.c.fingerprint)
            known = records(connection, ModelRecord, select(embedding_models).order_by(*latest_first))
        return [ModelUse(model, tuple(uses.get(model.id, ()))) for model in known]
