"""Receives recordings and decodes them. The code that runs in the decoder's own process is in ``decoding``."""
