"""What exporting can refuse."""


class ExportRefusedError(ValueError):
    """The checkpoint must not be served as it is; the message says why and names the entry."""
