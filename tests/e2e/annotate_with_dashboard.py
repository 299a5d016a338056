"""An annotation run with Ray's dashboard on, which is then asked for all it knows: ``… CONFIG_JSON OUT_FOLDER``.

Writes what the dashboard said, and a copy of everything Ray wrote, below OUT_FOLDER, for the test to search.
"""

from __future__ import annotations

import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from cluster.connect import start_local
from pipelines.annotate import run_annotation
from pipelines.annotate_config import AnnotateConfig

PAGES = (
    "/api/v0/actors?detail=1&limit=1000",
    "/api/v0/tasks?detail=1&limit=1000",
    "/api/v0/workers?detail=1&limit=1000",
    "/api/v0/objects?detail=1&limit=1000",
    "/api/v0/runtime_envs?detail=1&limit=1000",
    "/api/v0/jobs?detail=1&limit=1000",
    "/api/jobs/",
    "/logical/actors",
    "/nodes?view=details",
    "/api/cluster_status",
    "/events",
    "/api/data/datasets/01000000",
)


def main() -> None:
    import ray

    config, out = AnnotateConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2])
    with start_local(4, dashboard=True):
        run_annotation(config)
        node = ray._private.worker.global_worker.node
        token = os.environ.get("RAY_AUTH_TOKEN", "")
        answered = 0
        for number, page in enumerate(PAGES):
            request = urllib.request.Request(
                f"http://{ray._private.worker._global_node.address_info['webui_url']}{page}",
                headers={"Authorization": f"Bearer {token}"},
            )
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as reply:
                    body = reply.read()
                    answered += 1
            except urllib.error.HTTPError as error:
                body = error.read()
            (out / f"page-{number}.txt").write_bytes(page.encode() + b"\n" + body)
        shutil.copytree(node.get_session_dir_path(), out / "session", ignore=_sockets, dirs_exist_ok=True)
        print(f"{answered} pages answered")


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder) / name).is_file() and not (Path(folder) / name).is_dir()]


if __name__ == "__main__":
    main()
