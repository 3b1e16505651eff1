"""Our streams below the libraries that people use, with real servers and clients at the other end."""
