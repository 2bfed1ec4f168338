"""What the ``litmus`` command can fail with: each message says what to do about it."""


class LitmusError(Exception):
    """The command cannot go on; the message is for the person at the terminal."""


class JavaMissingError(LitmusError):
    """No Java of at least version 17 was found."""


class JarsError(LitmusError):
    """Kafka's jars could not be fetched, or are not those that were checked in."""


class PortBusyError(LitmusError):
    """Another program listens on a port of the stack."""


class DataFormatError(LitmusError):
    """The data in a home were written by another version."""


class AlreadyRunningError(LitmusError):
    """A stack runs from this home."""


class NotRunningError(LitmusError):
    """No stack runs from this home."""


class TopicMismatchError(LitmusError):
    """A topic exists otherwise than it must be."""


class StartError(LitmusError):
    """A process did not get ready."""


class BindError(LitmusError):
    """An address was asked for that others could reach."""


class WrongAnswerError(LitmusError):
    """What was measured gave a wrong answer; its figures would be of something else."""
