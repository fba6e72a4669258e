"""What can go wrong with the embedded Triton, one class per reaction."""


class EnvironmentUnusableError(RuntimeError):
    """The server's own Python environment is missing or broken; building it anew is the remedy."""


class TritonStartError(RuntimeError):
    """The server did not become ready: it died, or the time was up. The message ends with the log's last lines."""
