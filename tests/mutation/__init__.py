"""Random mutants of the gradient rules, bodies and kernels: does the suite notice each of them?

`python -m tests.mutation` changes one place at a time in the syntax tree of a module, runs the
checks that reach that place, and lists the mutants that none of them noticed. Each survivor is
either a hole in the suite or equivalent to the original, and then `equivalent.toml` says why.
"""
