"""The rules of the client's calls, without any I/O: both clients follow them."""
