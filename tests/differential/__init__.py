"""The same damaged flights, given to our machine and to OpenSSL's: who accepts what the other refuses, and why."""
