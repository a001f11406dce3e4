"""The web console: a few read-only pages about batches, for what Temporal's UI cannot show."""
