"""The speed of reading beside that of faster-whisper's batched pipeline: `make bench-reading`."""
