"""``python -m vlmagent``: the same program as the ``vlmagent`` command."""

from vlmagent.cli.main import main

main()
