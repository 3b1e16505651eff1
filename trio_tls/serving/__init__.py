"""What `trio_tls.serve_tls` is made of: accepting, the life of one connection, the log."""
