"""``python -m stagebeam`` is the command ``stagebeam``."""

from stagebeam.cli import main

if __name__ == "__main__":
    main()
