"""What the process of a decoder is made of: imported by ``careca_gateway.decoding.process`` and by nothing else.

    source     the recording as FFmpeg opens it, and its packets
    tracks     its audio tracks: names, and which are used
    pcm        frames of any shape to 16 kHz 16-bit PCM
    outputs    where the PCM goes: one file, one for each channel, one for each track
    level      how loud it is, and whether it is clipped
    ending     whether the recording ends before its container says
    passes     the recording read once, and again where the first time shows that it has to be
    findings   what a person should know of it

Nothing heavy is imported: each recording starts a process.
"""
