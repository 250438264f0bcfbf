"""The ``hear`` command: it parses arguments and prints; the work is done by the packages below."""
