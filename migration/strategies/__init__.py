"""How a collection gets its vectors: in place, rebuild and alter, recreate; the plan, and what they share."""
