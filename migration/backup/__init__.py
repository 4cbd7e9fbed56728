"""Old vectors or whole documents on disk before they are overwritten, and the way back.

One folder for each run and collection, `HOME/backups/<run>/<collection>/`, readable by its owner only:

    documents.jsonl.zst   the records, one zstd frame a page, so that a page is either there or not
    schema.json           the collection's schema as the server gave it
    synonyms.jsonl        one synonym a line
    overrides.jsonl       one override a line
    synonym_sets.jsonl    one set a line, name and items, where the collection names sets (Typesense 30)
    curation_sets.jsonl   likewise
    create.json           the schema as `POST /collections` takes it (whole documents only)
    manifest.json         what this is, how much, checksums, whether complete
    RESTORE.md            how to put it back with zstd and curl alone

Nothing here talks to a server.
"""

from migration.backup.errors import BackupError
from migration.backup.guide import creatable
from migration.backup.lines import vector_line
from migration.backup.manifest import Kind
from migration.backup.reader import Backup
from migration.backup.shelf import BackupSummary, backup_folder, list_backups, prune
from migration.backup.writer import BackupWriter
