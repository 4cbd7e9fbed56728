"""What is wrong with a setting, found by looking: the server, the key, the schemas, the vectors. Changes nothing."""
