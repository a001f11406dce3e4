"""`overnight demo`: a real job on real input, on this machine.

Nothing is imported here: the demo's worker and its simulator import modules of this package.
"""
