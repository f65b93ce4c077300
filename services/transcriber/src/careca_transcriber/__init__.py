"""The transcriber: audio in, words with times out."""
