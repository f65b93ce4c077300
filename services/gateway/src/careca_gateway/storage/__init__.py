"""Recordings, decoded audio and results, on disk and in storage that gateways share. Nothing here decodes audio."""
