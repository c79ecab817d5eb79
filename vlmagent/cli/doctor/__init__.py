"""``vlmagent doctor``: what this installation can do on this machine, what is missing, and how to get it.

Every check is a function that yields findings; it needs no network and changes nothing. ``examine`` runs them side by
side, ``view`` shows what they found. Importing the package imports nothing heavy.
"""
