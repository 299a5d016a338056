"""The front door: the command ``stagebeam``, the quickstart and the embedded stand-ins.

Imports the other packages lazily, so that ``stagebeam --help`` answers before torch or Ray load.
"""

__version__ = "0.1.0"
