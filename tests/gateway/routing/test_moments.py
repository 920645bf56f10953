from __future__ import annotations

from random import Random

import pytest

from gateway.routing.moments import ENOUGH, Line, Mean, Plane


class TestLine:
    def test_it_never_falls(self):
        line = Line()
        for x in range(50):
            line.add(x, 100 - x)
        assert line.slope == 0
        assert line.at(10_000) >= 0

    def test_it_is_never_below_zero(self):
        line = Line()
        for x in range(100, 150):
            line.add(x, x - 100)
        assert line.at(0) == 0


class TestPlane:
    @staticmethod
    def taught(y, points):
        plane = Plane()
        for u, v in points:
            plane.add(u, v, y(u, v))
        return plane

    @staticmethod
    def points(count=60):
        rng = Random(1)
        return [(rng.uniform(0, 100), rng.uniform(0, 100)) for _ in range(count)]

    def test_both_slopes_are_found(self):
        plane = self.taught(lambda u, v: 5 + 2 * u + 3 * v, self.points())
        assert plane.slopes == (pytest.approx(2), pytest.approx(3))
        assert plane.at(1000, 0) == pytest.approx(2005)

    def test_also_where_one_hides_the_other(self):
        """The more of u, the less of v: by itself y falls with u."""
        points = [(u, 100 - u + v / 2) for u, v in self.points()]
        plane = self.taught(lambda u, v: u + 3 * v, points)
        assert plane.slopes == (pytest.approx(1), pytest.approx(3))

    @pytest.mark.parametrize(("by_u", "by_v"), [(-1, 1), (1, -1), (-1, -1)])
    def test_it_never_falls(self, by_u, by_v):
        plane = self.taught(lambda u, v: 500 + by_u * u + by_v * v, self.points(2000))
        slopes = plane.slopes
        for slope, by in zip(slopes, (by_u, by_v), strict=True):
            assert slope == (pytest.approx(1, abs=0.3) if by > 0 else 0)

    def test_what_varies_together_is_told_by_the_second(self):
        plane = self.taught(lambda u, v: u + v, [(x, 2 * x) for x in range(50)])
        assert plane.slopes == (0, pytest.approx(1.5))

    def test_what_does_not_vary_costs_nothing(self):
        assert self.taught(lambda u, v: u + v, [(7, 9)] * 50).slopes == (0, 0)

    def test_it_is_never_below_zero(self):
        plane = self.taught(
            lambda u, v: u + v - 150, [(u + 100, v + 100) for u, v in self.points()]
        )
        assert plane.at(0, 0) == 0

    def test_it_needs_enough(self):
        points = self.points(ENOUGH)
        assert self.taught(lambda u, v: u, points[1:]).at(1, 1) is None
        assert self.taught(lambda u, v: u, points).at(1, 1) is not None


def test_a_mean_needs_enough_and_follows():
    mean = Mean()
    for _ in range(ENOUGH):
        assert mean.value is None
        mean.add(1.0)
    assert mean.value == pytest.approx(1.0)
    for _ in range(200):
        mean.add(3.0)
    assert mean.value == pytest.approx(3.0, rel=0.01)
