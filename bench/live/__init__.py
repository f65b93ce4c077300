"""Live transcripts: how late words are, how often they change, and how they compare with those of recordings."""
