"""Everything that can go wrong between the tool, Typesense, the provider and the disk, and what must hold then."""
