from __future__ import annotations

from random import Random

import pytest

from gateway.routing.latency import Expected, Forecast, Lesson, Rates
from gateway.routing.moments import ENOUGH


def taught(answers=60, *, prefill=2000.0, decode=50.0, overhead=0.05, noise=0.0, seed=1):
    """The rates of a replica that computes `prefill` and `decode` tokens a second."""
    rates, rng = Rates(), Random(seed)
    for _ in range(answers):
        tokens = rng.randint(10, 4000)
        wobble = 1 + noise * rng.uniform(-1, 1)
        rates.first_token(tokens, (overhead + tokens / prefill) * wobble, 0.0)
        rates.decoded(99, 99 / decode * wobble)
    return rates


class TestRates:
    @pytest.mark.parametrize("noise", [0.0, 0.2])
    def test_they_are_learnt(self, noise):
        rates = taught(400, noise=noise)
        assert rates.prefill == pytest.approx(2000, rel=0.15)
        assert rates.decode == pytest.approx(50, rel=0.1)

    def test_a_forecast_is_their_sum(self):
        forecast = taught().forecast(ahead=4000, prompt=2000, output=100)
        assert forecast.queue == pytest.approx(2.0, rel=0.01)
        assert forecast.prefill == pytest.approx(1.05, rel=0.01)
        assert forecast.decode == pytest.approx(2.0, rel=0.01)
        assert forecast.total == pytest.approx(5.05, rel=0.01)

    def test_while_too_little_is_known_nothing_is_said(self):
        rates = taught(ENOUGH - 1)
        assert rates.forecast(0, 100, 10) == Forecast(None, None, None)
        assert (rates.prefill, rates.decode) == (None, None)

    def test_small_prompts_say_nothing_of_large_ones(self):
        """What they take is the way there: no prompt of 30 000 tokens is refused for it."""
        rates = Rates()
        for _ in range(50):
            rates.first_token(10, 0.05, 0.0)
        assert rates.forecast(0, 30_000, None).first_token == pytest.approx(0.05)
        assert rates.prefill is None

    def test_they_follow_a_replica_that_has_become_slower(self):
        rates, rng = taught(500), Random(2)
        for _ in range(150):
            tokens = rng.randint(10, 4000)
            rates.first_token(tokens, tokens / 500, 0.0)
        assert rates.prefill == pytest.approx(500, rel=0.1)

    def test_an_answer_of_one_token_has_no_rate(self):
        rates = Rates()
        for _ in range(20):
            rates.decoded(0, 0.0)
        assert rates.decode is None


class TestWhole:
    """Answers in one piece, of whose first token nothing is seen."""

    def taught(
        self,
        answers=200,
        *,
        prefill=2000.0,
        decode=50.0,
        noise=0.0,
        prompts=(10, 4000),
        outputs=(5, 400),
        rates=None,
    ):
        rates, rng = rates or Rates(), Random(1)
        for _ in range(answers):
            prompt, output = rng.randint(*prompts), rng.randint(*outputs)
            takes = (0.05 + prompt / prefill + output / decode) * (1 + noise * rng.uniform(-1, 1))
            rates.whole(prompt, output, takes, 0.0)
        return rates

    @pytest.mark.parametrize("noise", [0.0, 0.2])
    @pytest.mark.parametrize(("ahead", "prompt", "output"), [(0, 100, 10), (4000, 2000, 300)])
    def test_how_long_all_of_it_takes_is_learnt(self, noise, ahead, prompt, output):
        forecast = self.taught(400, noise=noise).forecast(ahead, prompt, output)
        right = 0.05 + (ahead + prompt) / 2000 + output / 50
        assert forecast.total == pytest.approx(right, rel=0.15, abs=noise)
        assert forecast.first_token is None, "nobody is late for what was never seen"

    def test_where_first_tokens_are_seen_again_their_parts_tell_more(self):
        rates = taught()
        assert self.taught(ENOUGH - 1, rates=rates).forecast(0, 100, 10).whole is None
        assert self.taught(1, decode=1, rates=rates).forecast(0, 100, 10).whole is not None
        rates.first_token(100, 0.1, 0.0)
        assert rates.forecast(0, 100, 10).whole is None

    def test_without_an_idea_of_the_answer_nothing_is_said(self):
        assert self.taught().forecast(0, 100, None) == Forecast(None, None, None)

    def test_while_too_little_is_known_nothing_is_said(self):
        assert self.taught(ENOUGH - 1).forecast(0, 100, 10).total is None

    def test_answers_that_are_alike_say_nothing_of_longer_ones(self):
        forecast = self.taught(prompts=(100, 100), outputs=(50, 50)).forecast(0, 100, 5000)
        assert forecast.total == pytest.approx(1.1)

    @pytest.mark.parametrize(
        ("prompts", "outputs"), [((500, 500), (5, 400)), ((10, 4000), (200, 200))]
    )
    def test_where_one_is_always_alike_the_other_is_learnt(self, prompts, outputs):
        forecast = self.taught(prompts=prompts, outputs=outputs).forecast(0, 500, 200)
        assert forecast.total == pytest.approx(4.3, rel=0.01)

    def test_it_follows_a_replica_that_has_become_slower(self):
        rates = self.taught(150, decode=10, rates=self.taught(500))
        assert rates.forecast(0, 1000, 100).total == pytest.approx(10.55, rel=0.05)

    def test_streams_say_it_better_while_there_are_any(self):
        rates = taught(decode=25.0)
        self.taught(ENOUGH - 1, rates=rates)
        assert rates.forecast(0, 2000, 100).total == pytest.approx(5.05, rel=0.01)

    def test_where_there_are_none_any_more_they_are_not_believed_for_ever(self):
        rates = self.taught(rates=taught(decode=25.0))
        forecast = rates.forecast(0, 2000, 100)
        assert forecast.total == pytest.approx(3.05, rel=0.01)
        assert forecast.first_token == pytest.approx(1.05, rel=0.01)

    def test_a_lesson_in_one_piece(self):
        rates, expected = Rates(), Expected()
        for at in range(20):
            Lesson(rates, expected, 100, 100, 0.0).over(1.0 + at, 100, 10 * at)
        assert rates.forecast(0, 100, 100).total == pytest.approx(11.0)
        assert rates.heard_at == 20.0

    def test_one_that_counts_no_answer_teaches_nothing(self):
        rates, expected = Rates(), Expected()
        for _ in range(20):
            Lesson(rates, expected, 100, 100, 0.0).over(1.0, 100, None)
        assert rates.forecast(0, 100, 100).total is None


@pytest.mark.parametrize(
    ("forecast", "first", "total", "excess"),
    [
        (Forecast(1.0, 0.5, 2.0), 1.0, None, 0.5),
        (Forecast(1.0, 0.5, 2.0), 2.0, 3.0, 0.5),
        (Forecast(1.0, 0.5, 2.0), 1.0, 2.0, 1.5),
        (Forecast(1.0, 0.5, 2.0), 2.0, 4.0, -0.5),
        (Forecast(1.0, 0.5, None), None, 0.1, 0.0),
        (Forecast(None, None, 2.0), 0.1, 0.1, 0.0),
        (Forecast(1.0, 0.5, 2.0), None, None, 0.0),
        (Forecast(None, None, None, 5.0), 1.0, 4.0, 1.0),
        (Forecast(1.0, 0.5, 2.0, 5.0), 1.0, 4.0, 1.0),
    ],
)
def test_what_is_too_long(forecast, first, total, excess):
    assert forecast.excess(first, total) == pytest.approx(excess)


class TestExpected:
    def test_answers_are_as_long_as_they_were_or_as_they_may_be(self):
        expected = Expected()
        assert expected.output(100) is None
        for _ in range(20):
            expected.learn(100, 125, 40)
        assert expected.output(None) == pytest.approx(40)
        assert expected.output(10) == 10
        assert expected.output(1000) == pytest.approx(40)
        assert expected.prompt(200) == 250

    def test_an_engine_that_does_not_count_teaches_nothing(self):
        expected = Expected()
        for _ in range(20):
            expected.learn(100, None, None)
        assert (expected.output(None), expected.prompt(100)) == (None, 100)


def test_a_lesson_is_learnt_step_by_step():
    rates, expected = Rates(), Expected()
    for at in range(20):
        tokens = 100 * (at + 1)
        lesson = Lesson(rates, expected, tokens, tokens, 0.0)
        lesson.first_token(tokens / 1000)
        lesson.over(tokens / 1000 + 2.0, tokens, 101)
    assert rates.prefill == pytest.approx(1000)
    assert rates.decode == pytest.approx(50)
    assert rates.heard_at == 2.0


def test_a_stream_that_tells_no_usage_is_counted_in_events():
    rates, expected = Rates(), Expected()
    for _ in range(20):
        lesson = Lesson(rates, expected, 100, 100, 0.0)
        lesson.first_token(0.1)
        lesson.pieces = 41
        lesson.over(2.1, None, None)
    assert rates.decode == pytest.approx(20)
    assert expected.output(None) == pytest.approx(41)


def test_where_usage_is_told_that_counts():
    rates, expected = Rates(), Expected()
    for _ in range(20):
        lesson = Lesson(rates, expected, 100, 100, 0.0)
        lesson.first_token(0.1)
        lesson.pieces = 41
        lesson.over(2.1, 100, 81)
    assert expected.output(None) == pytest.approx(81)


def test_one_that_breaks_off_has_taught_how_it_began():
    rates, expected = Rates(), Expected()
    for _ in range(20):
        Lesson(rates, expected, 100, 100, 0.0).first_token(0.5)
    assert rates.forecast(0, 100, 10) == Forecast(0.0, pytest.approx(0.5), None)
