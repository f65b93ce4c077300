"""The diarizer: audio in, turns with speakers out."""
