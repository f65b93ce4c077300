"""Live transcripts: sessions, their words and speakers. What is the same for recordings is elsewhere."""
