"""What exporting can refuse; a file system that says no is an `OSError` and stays one."""


class ExportRefusedError(ValueError):
    """What was asked for must not be done; nothing was changed. The message says why and names the entry."""


class VersionError(ExportRefusedError):
    """A published version is not what its manifest and its signature say; the message names the file."""
