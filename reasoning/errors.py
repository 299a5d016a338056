"""Every error the project raises on purpose, in one tree.

A message names the field or file, quotes the value and says the way out. Each class keeps its
message in ``args`` alone, so that it survives pickling between Ray workers.
"""

from __future__ import annotations


class StagebeamError(Exception):
    """The root; ``exit_code`` is what the command line answers with."""

    exit_code = 1


class ConfigError(StagebeamError):
    """A setting that cannot be: an unknown key, a value out of range, two that contradict."""

    exit_code = 2


class InputError(StagebeamError):
    """Input from outside that cannot be used: a missing file, no image, an empty question."""

    exit_code = 2


class ImageError(InputError):
    """Bytes that are no usable image: unknown format, truncated, too large."""


class OutputMismatchError(StagebeamError):
    """The output folder belongs to a run with another configuration."""

    exit_code = 3


class PortInUseError(StagebeamError):
    """Something else listens where a server of ours was to listen."""

    exit_code = 4


class TeacherError(StagebeamError):
    """The teacher endpoint could not be used at all: unreachable, refused the key, out of budget."""

    exit_code = 5


class EngineError(StagebeamError):
    """An engine could not load its model or could not carry out a request."""

    exit_code = 6


class TrainingError(StagebeamError):
    """Training ended without a usable checkpoint."""

    exit_code = 7


class BudgetReachedError(StagebeamError):
    """The money or the tokens that a run may spend are spent; what is finished stays."""

    exit_code = 8
