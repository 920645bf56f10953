from gateway.telemetry.absences import FORGOTTEN_AFTER, Absences


def test_one_that_is_gone_is_forgotten_after_a_while():
    absences = Absences()
    assert not absences.over({"a", "b"}, {"b"}, 100.0)
    assert not absences.over({"a", "b"}, {"b"}, 99.0 + FORGOTTEN_AFTER)
    assert absences.over({"a", "b"}, {"b"}, 100.0 + FORGOTTEN_AFTER) == {"a"}


def test_one_that_comes_back_is_gone_anew():
    absences = Absences()
    absences.over({"a"}, (), 0.0)
    absences.over({"a"}, {"a"}, FORGOTTEN_AFTER)
    assert not absences.over({"a"}, (), FORGOTTEN_AFTER + 1)
    assert absences.over({"a"}, (), 2 * FORGOTTEN_AFTER + 1) == {"a"}


def test_one_that_is_not_counted_any_more_is_not_remembered():
    absences = Absences()
    absences.over({"a"}, (), 0.0)
    absences.over((), (), FORGOTTEN_AFTER)
    assert not absences.over({"a"}, (), FORGOTTEN_AFTER + 1)
