"""What can go wrong with a peer, one class per reaction."""


class PeerUnavailableError(RuntimeError):
    """This system can't be measured here; the message says why. The others can."""


class ModelFolderError(ValueError):
    """There is no published version to serve where it was looked for; the message names the folder."""
