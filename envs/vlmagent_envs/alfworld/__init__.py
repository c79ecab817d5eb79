"""ALFWorld: six household task types, in a generated household, in the real games, or in real frames.

``env`` is what Gymnasium makes; the games themselves run in one process per environment (``worker``). Importing this
package imports neither alfworld nor textworld, which come with an extra.
"""
