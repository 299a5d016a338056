"""An annotation run as a process of its own, for the test that kills it: ``annotate_once.py CONFIG_JSON``."""

from __future__ import annotations

import sys

from cluster.connect import start_local
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig

if __name__ == "__main__":
    with start_local(4):
        run_annotation(AnnotateConfig.model_validate_json(sys.argv[1]))
