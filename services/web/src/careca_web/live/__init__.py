"""Live sessions, which go on for a minute without a WebSocket, so that a page can continue them."""
