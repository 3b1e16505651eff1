"""A server under attack, measured from outside: `server`, `good_clients` and `attackers` are processes of their own.

Each is told what to do by lines of JSON on its standard input, and answers each line by one on its standard output.
`test_load` puts them together.
"""
