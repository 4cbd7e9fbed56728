"""The schema's revisions, in the order of their numbers. A revision that was released is never changed."""
