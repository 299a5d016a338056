"""``python -m stagebeam.standin``: see ``stagebeam.standin.server``."""

from stagebeam.standin.server import main

main()
