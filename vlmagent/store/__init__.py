"""The run database: one process writes it (``writer``), any number read it (``reader``).

Importing the package is cheap on purpose: ``reader`` needs only the standard library and numpy, ``writer``
brings sqlite-utils when it opens a database.
"""
