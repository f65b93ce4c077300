"""faster-whisper's batched pipeline: answers each line of JSON on standard input with one on standard output.

``{}`` is answered once the model is loaded, ``{"recording": PATH, "beam_size": N}`` with the text, the number of words
and the seconds that they took. Its process has the environment that a user of the library has: nothing of Careca's.
"""

from __future__ import annotations

import json
import os
import sys
import time

from faster_whisper import BatchedInferencePipeline, WhisperModel, decode_audio


def main() -> None:
    """Answers until standard input ends. The arguments are the folder of the model and the number of threads."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what libraries print must not end up among the answers
        model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=int(sys.argv[2]))
        pipeline = BatchedInferencePipeline(model)
        for line in sys.stdin:
            request = json.loads(line)
            answers.write(json.dumps(_read(pipeline, request) if request else {}) + "\n")


def _read(pipeline: BatchedInferencePipeline, request: dict[str, str]) -> dict[str, object]:
    samples = decode_audio(request["recording"])
    started = time.perf_counter()
    found, _ = pipeline.transcribe(samples, beam_size=int(request["beam_size"]), word_timestamps=True)
    segments = list(found)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "words": sum(len(segment.words) for segment in segments),
        "text": " ".join(segment.text.strip() for segment in segments),
    }


if __name__ == "__main__":
    main()
