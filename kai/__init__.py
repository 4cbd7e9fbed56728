"""The application's side: what KAI stores in Typesense and how it embeds it."""
