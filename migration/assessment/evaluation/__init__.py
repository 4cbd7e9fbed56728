"""Is another embedding model better at the user's own questions: metrics, questions, the sample, and the verdict."""
