"""Sentences that teachers write: which decline, which give away that the answer was known."""

from __future__ import annotations

import pytest

from actors.wording import giveaway, is_refusal, sees_no_picture

LEAKS = [
    "This matches the standard answer.",
    "Based on the standard answer, the count is 2.",
    "The standard correct answer is 7.",
    "The provided answer is 2.",
    "So says the ground truth.",
    "Compared with the ground-truth label it is a dog.",
    "The ground\ntruth is B.",
    "This agrees with the given answer, B.",
    "This agrees with the given correct answer.",
    "The expected answer is therefore 12.",
    "The reference answer lists three.",
    "It equals the reference solution.",
    "The golden answer is yes.",
    "By the answer key it is C.",
    "The answer provided is 4, so there must be another cube.",
    "which matches the answer provided",
    "That is the answer that was given.",
    "The answer is already provided: 5.",
    "The correct answer is given as 5.",
    "The correct answer was stated to be 5.",
    "The answer we were given is 7.",
    "It is the answer I was told.",
    "This is the solution that we have been given.",
    "As I was told, it is a cat.",
    "I was told that the answer is 3.",
    "I was told the correct answer, so I work backwards.",
    "I will write as if I had not been told.",
    "As provided, the answer is B.",
    "The answer is B, as given.",
    "So there are nine, as provided.",
    "This matches the correct answer.",
    "The colour corresponds to the correct answer, red.",
    "To arrive at the correct answer of 6, add them.",
    "According to the answer, there are two dogs.",
    "Since the correct answer is B, the bars differ.",
    "Knowing that the answer is 12, we look for twelve bars.",
    "The answer given in the prompt is 4.",
    "The conclusion supplied by the instructions is 4.",
    "The solution given to me says 4.",
    "It is the intended answer.",
    "The official answer is no.",
    "For my guidance it says 4.",
    "The known answer is 40 degrees.",
    "The answer, as supplied, is 4.",
]
HINTS = [
    "The hint says it floats.",
    "As given in the hint, it floats.",
    "Following the given hint, compare the two.",
    "As hinted, it floats.",
    "A hint was provided about the season.",
    "Using the teacher's words and the hint, it is spring.",
]
NO_LEAKS = [
    "The given diagram shows a triangle.",
    "The provided chart has four bars.",
    "The expected value is 3.5.",
    "The expected result of the experiment is a colder cup.",
    "So the correct answer is 2.",
    "The correct answer choice is B.",
    "From the given answer choices, B fits.",
    "Of the provided answer options only C is a mammal.",
    "None of the given answers fits.",
    "The answer is given by 2x + 1.",
    "The answer is given in the second column.",
    "The answer is provided on the sign.",
    "We are told that AB = 5 cm.",
    "As given in the figure, angle A is 40°.",
    "With the side lengths as given, the area is 12.",
    "The formula needs the radius, as provided in the chart.",
    "The standard deviation is small.",
    "Write it in standard form.",
    "A standard solution of salt has a known concentration.",
    "The given solution is acidic.",
    "The reference line is dashed.",
    "He won a gold medal.",
    "Press the answer button.",
    "The answer box is empty.",
    "A fox on the ground; truth be told, it sleeps.",
    "We know the sum of the angles is 180°.",
    "Given that the answer must be in metres, convert.",
    "Match each label with the correct picture.",
    "The arrow corresponds to the correct answer choice, B.",
    "There is a hint of blue in the sky.",
    "The hint of a smile can be seen.",
    "The shadow hints at the time of day.",
    "The provided image contains the text 42.",
    "The options provided are A to D.",
    "The known sides are 3 and 4.",
    "The target is red and white.",
    "The question asks for the answer as a number.",
]


@pytest.mark.parametrize("text", LEAKS)
def test_words_that_tell_of_a_given_answer(text: str) -> None:
    assert giveaway(text, is_hint_hidden=False) is not None


@pytest.mark.parametrize("text", HINTS)
def test_words_that_tell_of_a_hint_count_where_it_is_hidden(text: str) -> None:
    assert giveaway(text) is not None
    assert giveaway(text, is_hint_hidden=False) is None


@pytest.mark.parametrize("text", NO_LEAKS)
def test_words_about_the_picture_are_no_giveaway(text: str) -> None:
    assert giveaway(text) is None


def test_words_that_were_asked_do_not_count() -> None:
    asked = ["What is the Expected\nanswer on the sheet?", "the answer key"]
    assert giveaway("The expected answer on the sheet is 4, by the answer key.", asked=asked) is None
    assert giveaway("The expected answer is 4, by the ground truth.", asked=asked) == "ground truth"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m really sorry, but this is not possible.",
        "Sorry, I can't identify people in pictures.",
        "Sorry, but no.",
        "I apologize, but I will not.",
        "My apologies: this is beyond me.",
        "As an AI, I see nothing.",
        "As an AI language model I have no eyes.",
        "I cannot determine how many.",
        "I can't assist with this request.",
        "I can’t actually provide that.",
        "I am unable to answer the question.",
        "I'm not able to identify this person.",
        "We are unable to process the picture.",
        "I won't answer.",
        "I must decline to answer.",
        "Unable to determine from what is shown.",
        "I don't feel comfortable answering this.",
        "This would be against my guidelines.",
        "It violates the content policy.",
        "I do not have access to the picture.",
        "I'd rather not say.",
        "Your request cannot be fulfilled.",
        "No image was provided.",
        "Please upload the image.",
        "I don't see any image.",
        "I cannot view images.",
        "I'm unable to see the picture.",
    ],
)
def test_words_that_decline(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "The sign says 'Sorry, we are closed'.",
        "The card reads \"I'm sorry, I can't help you\".",
        "“I cannot answer” is what the speech bubble says.",
        "He is sorry.",
        "The sorry state of the house.",
        "The cat is unable to see the mouse.",
        "I cannot see a third cube: 2",
        "It cannot be determined from the picture.",
        "The machine is unable to process more than five a minute.",
        "As an aircraft, it flies.",
        "We cannot divide by zero, so x is 2.",
        "The return policy is 30 days.",
        "The player can't continue.",
        "No picture hangs on the wall.",
        "The woman provides an apology.",
        "No",
        "",
    ],
)
def test_words_that_only_sound_like_declining(text: str) -> None:
    assert not is_refusal(text)


def test_a_writer_without_the_picture_says_so() -> None:
    assert sees_no_picture("As an AI model I look at nothing.")
    assert sees_no_picture("No picture was attached to the question.")
    assert sees_no_picture("I can't view the image directly.")
    assert not sees_no_picture("We cannot determine the height from the picture, but the width is 4.")
    assert not sees_no_picture("The boy cannot see the picture.")
