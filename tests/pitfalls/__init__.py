"""What users of Trio's TLS streams trip over, one test for each.

How this works. The numbers in the tests' names are those under which the situations were collected and
reproduced: P, U and C of ``trio.SSLStream`` 0.35, A of anyio's ``TLSStream`` 4.16. Each test sets up the same
situation and shows what happens here instead; its docstring says what happened there.
"""
