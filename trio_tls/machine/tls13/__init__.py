"""TLS 1.3 of our own (RFC 9846): records, messages, key schedule and handshake, without IO, time or randomness."""
