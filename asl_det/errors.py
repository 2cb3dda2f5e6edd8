class UserError(ValueError):
    """A mistake in the input, explained in one line: what came, what to do."""
