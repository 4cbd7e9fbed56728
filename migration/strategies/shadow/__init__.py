"""The shadow, the new collection beside the live one, and the way to the live one's name.

What the shadow says about itself on the server is in `migration.strategies.shadow_state`; synonyms and curations are
taken along by `migration.strategies.curation`.

pages.py       live documents become the shadow's documents
builder.py     the shadow filled, kept abreast, checked
copying.py     documents back under the old name
watching.py    what an application has written there meanwhile
keeping.py     the previous collection kept, if asked for
referring.py   documents of other collections, kept while a delete may take the wrong ones along
references.py  joins of other collections led to the right documents again
successor.py   the collection under the old name: made, or the application's own
cutover.py     from the checked shadow to the collection under its own name
"""
