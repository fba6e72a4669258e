"""What goes wrong with a lazy table."""


class LazyTableError(Exception):
    """The table can't be opened, read or written; what was committed is there still. The message names the file."""
