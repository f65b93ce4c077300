"""The decoder's own process: imported by ``careca_gateway.decoding.process`` and not by the gateway.

Only ``crosstalk`` is imported by the gateway too, for live audio.

    process        the entry point: limits, sandbox, reports
    sandbox        takes from the process all access that it does not need
    source         the recording as FFmpeg opens it, and its packets
    tracks         the audio tracks: their names, and which of them are used
    track_reader   decodes the packets of one track, and notices damage
    pcm            converts frames to 16 kHz 16-bit PCM
    outputs        writes the PCM: one file, or one for each channel or track
    mixing         mixes or separates several tracks
    crosstalk      silences echoes of other channels
    level          measures loudness and clipping
    truncation     finds recordings that end too early
    passes         reads the recording once, and again if necessary
    stream         reads a recording that is still being made
    notices        notices about the recording

Nothing heavy is imported, because each recording starts a new process. For the same reason nothing else of Careca is.
"""
