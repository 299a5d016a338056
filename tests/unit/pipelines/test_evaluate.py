"""What an evaluation counts, pairs and explains."""

from __future__ import annotations

from pathlib import Path

import made_up
import pytest

from pipelines.answers import answer_from, read_answers, table_of
from pipelines.compare import combine, console_table, family_table, load_evaluation
from pipelines.diagnostics import TraceTally
from pipelines.evaluate import EVALUATION_FILE, EvaluateConfig, ResultsFolder, evaluate_answers, run_evaluation
from pipelines.findings import findings
from pipelines.measures import Evaluation
from pipelines.prior import fit_constants, measure_prior
from pipelines.schemas import write_questions
from reasoning.errors import ConfigError, InputError
from reasoning.ledger import Ledger
from reasoning.records import AnswerType, Question
from reasoning.trace import Trace


def test_right_wrong_format_failures_and_errors_are_told_apart() -> None:
    asked = [made_up.question(i) for i in range(5)]
    unknown = made_up.question(9, answer=None)
    answers = [
        made_up.answer(asked[0]),
        made_up.answer(asked[1], is_correct=False, conclusion="7"),
        made_up.answer(asked[2], is_correct=False, conclusion=None, fault="caption.unclosed"),
        made_up.answer(asked[3], is_correct=None, conclusion=None, error_type="ImageError"),
        made_up.answer(asked[4]),
        made_up.answer(unknown, is_correct=None),
    ]
    [found] = evaluate_answers({("m", "greedy"): answers}).searches
    assert (found.accuracy.successes, found.accuracy.total) == (2, 5)
    assert (found.wrong, found.format_failures, found.errors, found.unknown) == (1, 1, 1, 1)
    assert found.accuracy.low < 0.4 < found.accuracy.high


def test_ledger_is_the_mean_over_answers_without_error() -> None:
    failed = made_up.answer(
        made_up.question(2), is_correct=None, conclusion=None, error_type="ImageError", ledger=Ledger()
    )
    [found] = evaluate_answers({("m", "greedy"): [made_up.answer(made_up.question(1)), failed]}).searches
    assert found.ledger.computed_tokens == 100 - 20 + 30 + 10
    assert found.ledger.judge_tokens == 10
    assert found.ledger.seconds == 0.5


def test_search_is_paired_with_greedy_of_the_same_model_only() -> None:
    evaluation = made_up.evaluation()
    greedy, searched = evaluation.searches
    assert greedy.paired == ()
    [pair] = searched.paired
    assert (pair.baseline, pair.questions) == ("four-stage / greedy", 40)
    assert (pair.only_this, pair.only_baseline) == (12, 0)
    assert pair.p_value < 0.001
    assert pair.difference == pytest.approx(0.3)


def test_reference_pairs_across_models_and_must_exist() -> None:
    right = [made_up.answer(made_up.question(1))]
    wrong = [made_up.answer(made_up.question(1), is_correct=False, conclusion="2")]
    groups = {("base", "direct"): wrong, ("four-stage", "greedy"): right}
    evaluation = evaluate_answers(groups, reference=("four-stage", "greedy"))
    assert [pair.baseline for pair in evaluation.searches[0].paired] == ["four-stage / greedy"]
    with pytest.raises(ConfigError, match="base/vote"):
        evaluate_answers(groups, reference=("base", "vote"))


def test_diagnostics_tell_oracle_vote_and_pick_from_the_pool() -> None:
    tally = TraceTally()
    asked = made_up.question()
    tally.add(asked, made_up.best_of(["3", "2", "2"], 0), chosen_right=True)
    tally.add(asked, made_up.best_of(["2", "3", "3"], 0), chosen_right=False)
    tally.add(asked, made_up.best_of(["2", "2", "4"], 0), chosen_right=False)
    found = tally.diagnostics()
    assert found is not None
    assert (found.oracle.successes, found.oracle.total) == (2, 3)
    assert found.vote.successes == 1
    assert (found.picked.successes, found.picked.total) == (1, 2)
    assert found.picked_by_chance == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert found.distinct_conclusions == pytest.approx(2.0)


def test_judge_is_measured_where_candidates_came_to_different_ends() -> None:
    tally = TraceTally()
    asked = made_up.question()
    tally.add(asked, made_up.beam(), chosen_right=True)
    by_stage = {entry.stage: entry for entry in tally.judgements()}
    assert list(by_stage) == ["CAPTION", "CONCLUSION"]
    assert (by_stage["CAPTION"].picked_right.successes, by_stage["CAPTION"].picked_right.total) == (1, 1)
    conclusion = by_stage["CONCLUSION"]
    assert (conclusion.undecided, conclusion.picked_right.successes) == (1, 1)
    assert (conclusion.swap_consistent.successes, conclusion.swap_consistent.total) == (0, 1)


def test_comparison_of_equal_ends_does_not_count() -> None:
    tally = TraceTally()
    tally.add(made_up.question(), made_up.best_of(["3", "3"], 0), chosen_right=True)
    [entry] = tally.judgements()
    assert (entry.comparisons, entry.picked_right.total) == (1, 0)


def test_diversity_counts_distinct_texts_of_siblings() -> None:
    tally = TraceTally()
    tally.add(made_up.question(), made_up.beam(), chosen_right=True)
    found = tally.diagnostics()
    assert found is not None
    by_stage = {entry.stage: entry for entry in found.diversity}
    assert by_stage["SUMMARY"].usable == 0.5
    assert by_stage["CAPTION"].distinct_texts == 1.0


def test_prior_is_chosen_on_training_questions_and_measured_on_others() -> None:
    train = [made_up.question(i, answer="2") for i in range(6)] + [
        made_up.question(i, answer="yes", family="exist", text="Is there a cube?") for i in range(4)
    ]
    test = [
        made_up.question(1, answer="2"),
        made_up.question(2, answer="5"),
        made_up.question(3, answer="yes", family="exist", text="Is there a ball?"),
    ]
    prior = measure_prior(fit_constants(train), test)
    assert prior is not None
    assert prior.constant == "2"
    assert (prior.plain.successes, prior.by_family.successes, prior.by_family.total) == (1, 2, 3)
    assert [entry.constant for entry in prior.families] == ["2", "yes"]


def test_prior_takes_an_option_letter_where_that_is_best() -> None:
    def choice(number: int, answer: str) -> Question:
        return Question(
            id=f"c{number}",
            question="Which colour?",
            choices=(f"red{number}", f"blue{number}"),
            answer=answer,
            answer_type=AnswerType.CHOICE,
        )

    train = [choice(i, f"blue{i}") for i in range(5)]
    assert fit_constants(train).overall == "B"


def test_evaluation_survives_json() -> None:
    evaluation = made_up.evaluation([made_up.question(i) for i in range(3)])
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_console_table_begins_with_the_prior_and_says_the_difference() -> None:
    table = console_table(made_up.evaluation([made_up.question(i, answer="2") for i in range(3)]))
    assert [row[1] for row in table.rows] == ["constant answers", "greedy", "best_of_2"]
    assert table.rows[2][-2:] == ("+30.0", "<0.001")
    assert all(len(row) == len(table.columns) == len(table.numeric) for row in table.rows)


def test_family_table_has_a_column_a_search() -> None:
    table = family_table(made_up.evaluation())
    assert table.columns[3:] == ("four-stage / greedy", "four-stage / best_of_2")
    assert [row[0] for row in table.rows] == ["count", "exist"]


def test_combine_refuses_the_same_search_twice() -> None:
    evaluation = made_up.evaluation()
    with pytest.raises(InputError, match="four-stage / best_of_2"):
        combine([evaluation, evaluation])


def test_findings_call_an_unsupported_difference_none() -> None:
    asked = [made_up.question(i) for i in range(4)]
    plain = [made_up.answer(q) for q in asked]
    searched = [
        made_up.answer(q, search="vote", strategy="self_consistency", is_correct=i != 0) for i, q in enumerate(asked)
    ]
    said = findings(evaluate_answers({("m", "greedy"): plain, ("m", "vote"): searched}))
    assert any("m / vote: no difference from greedy can be told" in sentence for sentence in said)
    assert any("is better than greedy" in sentence for sentence in findings(made_up.evaluation()))


def test_run_evaluation_reads_results_and_writes_json(tmp_path: Path) -> None:
    asked = [made_up.question(i) for i in range(3)]
    made_up.write_results(tmp_path / "scored", [made_up.answer(q, trace=made_up.best_of(["3", "2"], 0)) for q in asked])
    write_questions(tmp_path / "train", [made_up.question(50, answer="2")])
    config = EvaluateConfig(
        results=(ResultsFolder(label="four-stage", path=str(tmp_path / "scored")),),
        output=str(tmp_path / "out"),
        train_questions=str(tmp_path / "train"),
    )
    evaluation = run_evaluation(config)
    assert evaluation.searches[0].accuracy.successes == 3
    assert evaluation.prior is not None
    assert evaluation.prior.plain.successes == 0
    assert load_evaluation(tmp_path / "out" / EVALUATION_FILE) == evaluation


def test_uncommitted_answers_are_not_read(tmp_path: Path) -> None:
    made_up.write_results(tmp_path / "scored", [made_up.answer(made_up.question())], commit=False)
    config = EvaluateConfig(
        results=(ResultsFolder(label="m", path=str(tmp_path / "scored")),), output=str(tmp_path / "out")
    )
    with pytest.raises(InputError, match="no committed answers"):
        run_evaluation(config)


def test_a_label_used_twice_is_refused() -> None:
    folder = ResultsFolder(label="m", path="a")
    with pytest.raises(ConfigError, match="'m' is used twice"):
        EvaluateConfig(results=(folder, folder), output="out")


def test_answer_rows_survive_parquet(tmp_path: Path) -> None:
    said = made_up.answer(made_up.question(), trace=made_up.beam())
    made_up.write_results(tmp_path, [said])
    [back] = read_answers([tmp_path / "results" / "greedy" / "part-00000.parquet"])
    assert back.trace is not None
    assert Trace.from_json(back.trace) == made_up.beam()
    assert (back.conclusion, back.is_correct, back.family, back.ledger) == ("3", True, "count", said.ledger)


def test_error_row_without_question_columns_can_be_read() -> None:
    row = table_of([{"question_id": "q", "search": "greedy", "strategy": "greedy", "error_type": "InputError"}])
    back = answer_from(row.to_pylist()[0])
    assert (back.error_type, back.question.answer, back.ledger) == ("InputError", None, Ledger())
