"""What numbers that are told one by one come to: a mean, a line, a plane, each forgetful. Pure.

Nothing is said before there is enough to go by, and nothing of what an x costs that hardly varies.

Source: exponentially weighted moments, after T. Finch, "Incremental calculation of weighted mean
and variance" (University of Cambridge, 2009), with covariances beside the variances. No slope
falls, as in least squares with bounds (C. L. Lawson and R. J. Hanson, "Solving Least Squares
Problems", 1974, chapter 23): with two variables there are four cases, and each is written out.
"""

from __future__ import annotations

ENOUGH = 8
"""Numbers before anything is said."""
_NEWS = 0.05
"""How much of what is known the latest one makes out, once there are enough."""
_SPREAD = 0.05
"""Standard deviation of x, as a share of its mean, below which nothing can be said of a slope."""
_TOGETHER = 0.95
"""Squared correlation of two x's from which on they cannot be told apart."""


class Mean:
    """A mean that follows what is new."""

    __slots__ = ("_value", "count")

    def __init__(self) -> None:
        self._value = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        self._value += max(_NEWS, 1 / self.count) * (value - self._value)

    @property
    def value(self) -> float | None:
        """None while there is not enough to go by."""
        return self._value if self.count >= ENOUGH else None


class Line:
    """y by x, as a straight line that follows what is new; it never falls."""

    __slots__ = ("_covariance", "_variance", "_x", "_y", "count")

    def __init__(self) -> None:
        self._x = self._y = self._variance = self._covariance = 0.0
        self.count = 0

    def add(self, x: float, y: float) -> None:
        """One more point."""
        self.count += 1
        share = max(_NEWS, 1 / self.count)
        off_x, off_y = x - self._x, y - self._y
        self._x += share * off_x
        self._y += share * off_y
        self._variance = (1 - share) * (self._variance + share * off_x * off_x)
        self._covariance = (1 - share) * (self._covariance + share * off_x * off_y)

    @property
    def slope(self) -> float:
        """y per x; 0 where the x's are too much alike to tell."""
        if self._variance <= (_SPREAD * self._x) ** 2:
            return 0.0
        return max(0.0, self._covariance / self._variance)

    def at(self, x: float) -> float | None:
        """y; None while there is not enough to go by."""
        if self.count < ENOUGH:
            return None
        return max(0.0, self._y + self.slope * (x - self._x))


class Plane:
    """y by u and v, as a plane that follows what is new and falls in neither direction.

    Where they vary together, what each of them costs cannot be told, and v stands for both.
    """

    __slots__ = ("_u", "_uu", "_uv", "_uy", "_v", "_vv", "_vy", "_y", "count")

    def __init__(self) -> None:
        self._u = self._v = self._y = 0.0
        """Means."""
        self._uu = self._vv = self._uv = self._uy = self._vy = 0.0
        self.count = 0

    def add(self, u: float, v: float, y: float) -> None:
        """One more point."""
        self.count += 1
        share = max(_NEWS, 1 / self.count)
        off_u, off_v, off_y = u - self._u, v - self._v, y - self._y
        self._u += share * off_u
        self._v += share * off_v
        self._y += share * off_y
        rest = 1 - share
        self._uu = rest * (self._uu + share * off_u * off_u)
        self._vv = rest * (self._vv + share * off_v * off_v)
        self._uv = rest * (self._uv + share * off_u * off_v)
        self._uy = rest * (self._uy + share * off_u * off_y)
        self._vy = rest * (self._vy + share * off_v * off_y)

    @property
    def slopes(self) -> tuple[float, float]:
        """y per u and per v, none below 0."""
        uu, vv, uv, uy, vy = self._uu, self._vv, self._uv, self._uy, self._vy
        varies_u = uu > (_SPREAD * self._u) ** 2
        varies_v = vv > (_SPREAD * self._v) ** 2
        only_u = (max(0.0, uy / uu), 0.0) if varies_u else (0.0, 0.0)
        only_v = (0.0, max(0.0, vy / vv)) if varies_v else (0.0, 0.0)
        if not varies_u or not varies_v:
            return only_u if varies_u else only_v
        if uv * uv >= _TOGETHER * uu * vv:
            return only_v
        determinant = uu * vv - uv * uv
        by_u = (uy * vv - vy * uv) / determinant
        by_v = (vy * uu - uy * uv) / determinant
        if by_u < 0:
            return only_v
        return only_u if by_v < 0 else (by_u, by_v)

    def at(self, u: float, v: float) -> float | None:
        """y; None while there is not enough to go by."""
        if self.count < ENOUGH:
            return None
        by_u, by_v = self.slopes
        return max(0.0, self._y + by_u * (u - self._u) + by_v * (v - self._v))
