"""`python -m tape`: the `tape` command, where it is not on the path."""

from tape.cli import main

main()
