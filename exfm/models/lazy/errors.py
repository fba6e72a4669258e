"""What goes wrong with a lazy table."""


class LazyTableError(OSError):
    """The table can't be opened, read or written; what was committed is there still. The message names the file."""


class TableRowError(LazyTableError, IndexError):
    """The rows that were asked for are not all in the table: their fault, not the file's."""
