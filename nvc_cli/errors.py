"""The one kind of error that a user is meant to read."""


class NvcError(Exception):
    """One sentence that names the file, the reason and the way out. The command line prints it and exits with code 1."""
