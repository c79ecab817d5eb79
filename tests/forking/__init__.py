"""Programs for tests, forked from a process that has already imported what they need.

A process that trains imports torch and transformers first, which takes seconds, more than all it then does in a test.
``server`` has done that once for each test worker; ``popen`` is a ``subprocess.Popen`` that has it fork; ``client`` is
the same for shell scripts.
"""
