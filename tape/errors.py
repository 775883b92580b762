"""What ends a command with a sentence and an exit code, instead of a trace."""


class WrongInput(Exception):
    """What was asked for cannot be done; nothing was written."""


class Stopped(Exception):
    """The user asked to stop; what was committed stands and can be resumed."""


class StrategyExit(Exception):
    """A strategy has called exit()."""
