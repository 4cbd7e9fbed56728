"""Several nodes in one process: the hazards of a Typesense cluster, for tests.

One node is the leader. What it has logged is committed: the log is one file, which stands for what a majority
of the nodes holds, so that no acknowledged write is lost with a node, and so that a sandbox of one node can be
started on the same folder. Each follower keeps a store of its own and carries out what was logged a moment
later (`lag`), which is what those who read from it notice.

Left out: a network that splits, nodes of different speed, and a follower's own answer to keys that it does not
know yet (writes are checked by the leader, to which they are passed on).
"""
