"""The quickstart, in small: interrupted at every step, it leaves nothing behind and goes on."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Command, wait_for

SETTINGS = """\
output: {output}
base_model: {model}
train_questions: 40
test_questions: 8
judge_questions: 2
topology: shared
scoring_actors: 1
fine_tune: {{max_steps: 4, batch_size_per_worker: 4}}
fine_tune_direct: {{max_steps: 2, batch_size_per_worker: 4}}
searches:
  greedy: {{strategy: greedy, prompt_style: compact, sampling: {{max_new_tokens: 20}}}}
  beam-2: {{strategy: stage_beam, samples: 2, prompt_style: compact, sampling: {{max_new_tokens: 20}}}}
demonstration: beam-2
"""
# Where each step is caught: at once, or in the middle of its work.
SECONDS_INTO_STEP = {"1/5 Annotate": 4.0, "2/5 Fine-tune": 8.0, "3/5 Serve": 5.0, "4/5 Search": 4.0}


@pytest.fixture
def settings(tmp_path: Path, tiny_model: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(SETTINGS.format(output=tmp_path / "run", model=tiny_model))
    return file


@pytest.mark.timeout(600)
def test_interrupted_at_every_step_it_resumes_and_leaves_no_process(
    stagebeam: Command, settings: Path, tmp_path: Path
) -> None:
    for number, (step, seconds) in enumerate(SECONDS_INTO_STEP.items()):
        log = tmp_path / f"interrupted-{number}.log"
        with stagebeam.started("quickstart", "--config", settings, log=log) as process:
            wait_for(log, f"{step} …", process)
            time.sleep(seconds)
            # To the whole group, as a terminal does.
            os.killpg(process.pid, signal.SIGINT)
            # The promise is that it ends; how fast depends on who else uses the cores.
            code = process.wait(timeout=150)
        text = log.read_text()
        assert code == 130, text
        assert "stagebeam: stopped. Run the same command again: finished steps are kept." in text
        assert "Traceback" not in text
        assert stagebeam.left_over() == []

    done = stagebeam("quickstart", "--config", settings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "1/5 Annotate  done before" in done.stdout
    assert re.search(r"Report: .*report\.html", done.stdout)
    assert "constant answers" in done.stdout
    assert stagebeam.left_over() == []
    report = (tmp_path / "run" / "report.html").read_text()
    assert "beam-2" in report
    assert not re.search(r"""(src|href)=["']https?:""", report)
