"""The contract: events, batches, definitions, control, partials, looks, topics, hashing."""
