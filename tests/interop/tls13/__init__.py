"""Our own TLS 1.3 machine with stacks that we did not write, on loopback."""
