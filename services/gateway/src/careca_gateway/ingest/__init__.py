"""From uploaded bytes to decoded audio: upload, limits, the decoder.

What runs in the decoder's own process is in ``decoding``.
"""
