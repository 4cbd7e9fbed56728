"""A new collection beside the live one, and the aliases moved to it: no pause, no blind window, a way back at once.

    build (as a shadow is) -> write down the base -> move the aliases -> carry over what the old one took last
    -> passes in place -> wait for `finish`, which drops the old collection, or for the way back

Both collections stand until somebody decides, so each side's writes must be told from what was copied. The base does
that: what both were last known to have in common, as in a three-way merge (`base`). Everything that says how far a
run got stands on the server (`state`), so that any machine goes on from there.
"""
