"""How many instructions the library takes, counted by callgrind: ``python -m tests.instructions``.

How this works. Times on a shared machine differ by half from one run to the next; the number of instructions does not.
`workloads` is a program that does the same work every time: both ends of a connection in one process, on a pair of
sockets. `counting` runs it under callgrind and reads what each piece of it took, by the library that the instructions
belong to. `baseline` compares that with what is written in ``baseline.json``, and `__main__` is the command.

The C of OpenSSL chooses its code by what the processor can do, so it is counted apart ("crypto") from the interpreter,
its extension modules and the C library ("interpreter"), where all of our own code is.
"""
