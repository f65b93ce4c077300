"""Saved voices: kept in the jobs' Redis, and added to requests. Voices are compared in the pipeline."""
