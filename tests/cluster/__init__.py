"""Whole runs against a cluster: at its leader, whose death does not end them, and where only a follower is known."""
