"""The way back, and backups by hand.

in_place.py    old vectors put back where they stood
recreating.py  the same across a change of dimensions, or for a collection that is gone
rollback.py    which backups, which collections, and one run of its own for all of them
by_hand.py     whole collections backed up
"""
