"""`RESTORE.md`: how to put a backup back without this tool, and the files that this needs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from kai.typesense_curation import NOTHING, PART_KINDS, SET_KINDS, Curation, PartKind, SetKind
from migration.backup.manifest import CREATE, CURATION, RECORDS, Manifest

_HEAD: Final = """# How to put this backup back by hand

{what} of the collection {name} of {server},
made by the run {run}. `zstd` and `curl` are enough. Work in this folder, in one shell:

```sh
export TYPESENSE_API_KEY=...   # a key that may do everything
TYPESENSE_URL={url}   # https:// where the server wants it
zstd -t {records}              # "decompressed" is good; a torn last page means the run was killed in the middle
```

`sha256sum *` must agree with `manifest.json`, where that has checksums.
"""

_VECTORS: Final = """
## The old vectors

Each line is `{{"id": …, {field}: …}}`, and `action=update` changes nothing else. A document that had
no vector has `null`, which takes the vector away again. Where an id stands more than once, the first line is
the true old value (but for a document that the application changed while a run held, which `kai-migrate restore`
knows); `tac` turns the order round, so that it is imported last and stays (`tail -r` on macOS).

```sh
zstd -dc {records} | tac | {import_in_parts} `Could not find a document` means that it was deleted since; there is
nothing to put back then. A vector of another length than the collection's field is refused: change the field
first, see `schema.json` for how it was.
"""

_DOCUMENTS: Final = """
## 1. The collection

If it still exists and is to be replaced, delete it first (everything in it is lost):

```sh
curl -sS -X DELETE "$TYPESENSE_URL/collections/{path}" -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY"
```

A field with `embed` and a masked key (`***`) needs its key again: put it into `create.json`. Collections that
this one refers to must be there.

```sh
curl -sS -X POST "$TYPESENSE_URL/collections" -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" \\
  -H "Content-Type: application/json" --data-binary @{create}
```

## 2. The documents

```sh
zstd -dc {records} | curl -sS -X POST "$TYPESENSE_URL/collections/{path}/documents/import?action=upsert" \\
  -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" -H "Content-Type: text/plain" --data-binary @- \\
  | grep -v '"success":true'
```

`curl` takes all of it into memory. A large collection goes in parts:

```sh
zstd -dc {records} | {import_in_parts} A document that the application changed while the backup was made
stands in it twice; the later one, its newest content, counts.
"""

_IMPORT_IN_PARTS: Final = """split -a 5 -l 1000 - page.
for page in page.*; do
  curl -sS -X POST "$TYPESENSE_URL/collections/{path}/documents/import?action={action}" \\
    -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" -H "Content-Type: text/plain" --data-binary "@$page" \\
    | grep -v '"success":true'
  echo
done
rm page.*
```

What it prints are the lines that failed."""

_OF_THE_COLLECTION: Final = """\
One line of `{file}` for each name below, in the same order. Up to Typesense 29; later ones know sets only, which
`kai-migrate restore` makes of them."""

_OF_THE_SERVER: Final = """\
They are the server's, from Typesense 30 on, and must be there before a collection that names them. Others may name
them too, so one that is there is left as it is. One line of `{file}` for each name below, in the same order."""

_UNLESS_THERE: Final = """\
  curl -s -f -o /dev/null "$TYPESENSE_URL/{kind}/$name" -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" && continue
"""

_CURATION: Final = """
## {title}

{about}

```sh
n=0
while IFS= read -r name; do
  n=$((n + 1))
{unless_there}  sed -n "${{n}}p" {file} | curl -sS -X PUT "$TYPESENSE_URL/{place}/$name" \\
    -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" -H "Content-Type: application/json" --data-binary @-
  echo
done <<'NAMES'
{names}
NAMES
```
"""


def creatable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema that the server gave, in the form that `POST /collections` takes.

    Without what the server counts (`created_at`, `num_documents`) and without a field `id`.
    """
    made = {name: value for name, value in schema.items() if name not in ("created_at", "num_documents")}
    made["fields"] = [field for field in schema.get("fields", ()) if field.get("name") != "id"]
    return made


def restore_guide(manifest: Manifest, curation: Curation) -> str:
    """The text of `RESTORE.md`. It has no key in it."""
    vectors = manifest.kind == "vectors"
    path = quote(manifest.collection, safe="")
    facts = {
        "what": "Old vectors" if vectors else "The whole content",
        "name": json.dumps(manifest.collection),
        "server": manifest.server,
        "run": json.dumps(manifest.run),
        "url": _url(manifest.server),
        "records": RECORDS,
        "create": CREATE,
        "path": path,
        "field": json.dumps(manifest.embedding_field),
        "import_in_parts": _IMPORT_IN_PARTS.format(path=path, action="update" if vectors else "upsert"),
    }
    parts = [
        _HEAD.format(**facts),
        *_curation(SET_KINDS, curation, path),
        (_VECTORS if vectors else _DOCUMENTS).format(**facts),
    ]
    if vectors and curation != NOTHING:
        parts.append("\nSynonyms and curations were not changed by the run; they are here in case they are needed.\n")
    return "".join([*parts, *_curation(PART_KINDS, curation, path)])


def _curation(kinds: Sequence[PartKind | SetKind], curation: Curation, path: str) -> Iterator[str]:
    for kind in kinds:
        if items := curation.of(kind):
            is_set, file = kind in SET_KINDS, CURATION[kind]
            yield _CURATION.format(
                title=kind.replace("_", " ").capitalize(),
                about=(_OF_THE_SERVER if is_set else _OF_THE_COLLECTION).format(file=file),
                unless_there=_UNLESS_THERE.format(kind=kind) if is_set else "",
                file=file,
                place=kind if is_set else f"collections/{path}/{kind}",
                names="\n".join(quote(str(item.get("name", item.get("id", ""))), safe="") for item in items),
            )


def _url(server: str) -> str:
    """For the shell: an address without a scheme is plain HTTP, as Typesense starts by default."""
    url = server if "://" in server else f"http://{server}"
    return "'" + url.replace("'", "'\\''") + "'"
