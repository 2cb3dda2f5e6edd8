class UserError(ValueError):
    """A mistake in the input, explained in one line: what came, what to do."""


class PreflightError(UserError):
    """Several mistakes that were found before a run started, each in a line of its own."""
