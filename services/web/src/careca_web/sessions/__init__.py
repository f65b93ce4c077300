"""Who calls: the token in the Authorization header, or the one in the encrypted cookie of a browser that signed in."""
