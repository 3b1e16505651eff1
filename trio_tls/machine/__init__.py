"""The sans-IO half: TLS machines that neither block, wait, nor know of Trio and sockets."""
