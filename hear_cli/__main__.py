"""``python -m hear_cli`` is the ``hear`` command."""

from hear_cli.main import main

main()
