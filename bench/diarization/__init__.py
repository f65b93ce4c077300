"""The diarizer alone: beside a peer, on made conversations, on long recordings. Writes docs/diarization.md."""
