"""What goes wrong with a lazy table."""


class LazyTableError(OSError):
    """The table can't be opened, read or written; what was committed is there still. The message names the file."""
