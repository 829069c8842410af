"""Mean squared distance of all pairs of a set, from the spread around its mean: linear in the number of rows."""

from torch import Tensor


class PairSpread:
    """The mean over all pairs of |f_i - f_j|^2, from feature maps that arrive in parts.

    For n vectors it is 2 / (n - 1) sum_i |f_i - mean f|^2: no distance of a pair is needed. Parts are merged by their
    means and sums of squares (Chan, Golub and LeVeque, 1983), so that only one part and one mean are in memory, and
    nothing is subtracted that is larger than the result: with float32 features u(1 +- e), e = 6e-8 times a few, the
    error is at most about 1e-6 (d + sqrt(d F)), F the mean of |f_i|^2. It is 1e-6 of d for unlike rows, and 1e-4 of d
    for rows that are alike to a ten-thousandth of F.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean_CHW: Tensor | None = None
        self._squares_C: Tensor | None = None

    def add(self, rows_BCHW: Tensor) -> None:
        """Further rows, float32 [B, C, H, W], at least one. They are overwritten: new memory would cost more time."""
        count, mean_CHW = len(rows_BCHW), rows_BCHW.mean(0)
        squares_C = rows_BCHW.sub_(mean_CHW).square_().mean((2, 3)).sum(0).double()
        if self._mean_CHW is None or self._squares_C is None:
            self._count, self._mean_CHW, self._squares_C = count, mean_CHW, squares_C
            return
        total, apart_CHW = self._count + count, mean_CHW - self._mean_CHW
        between_C = apart_CHW.square().mean((1, 2)).double() * (self._count * count / total)
        self._squares_C = self._squares_C + squares_C + between_C
        self._mean_CHW = self._mean_CHW + apart_CHW * (count / total)
        self._count = total

    def mean_over_pairs(self) -> Tensor:
        """Mean over pairs and positions of the squared difference of each channel, float64 [C].

        Raises:
            ValueError: there are fewer than two rows.
        """
        if self._count < 2 or self._squares_C is None:
            raise ValueError("a pairwise distance needs at least two images")
        return self._squares_C * (2 / (self._count - 1))
