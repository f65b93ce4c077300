"""Playing the recordings of jobs: their bytes, a form that every browser plays, and waveforms. Encodes nothing."""
