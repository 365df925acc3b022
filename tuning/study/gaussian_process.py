"""A Gaussian process over the unit cube: what is expected at a point, and how surely.

Matérn 5/2 with a length scale for each parameter (Rasmussen and Williams, 2006, chapters 4 and 5).
Length scales and noise have their most likely values under a mild prior; the amplitude follows in
closed form. scikit-learn's has no prior and took more than ten times as long: docs/decisions.md.
"""

import math

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from scipy.spatial.distance import cdist

from tuning.study.unit_cube import Floats, UnitCube

USUAL_SCALE, SCALE_SPREAD = 0.27, 0.8  # of a length scale, times the root of the dimensions
USUAL_NOISE, NOISE_SPREAD = 0.03, 1.2  # as a part of the amplitude
SCALE_BOUNDS, NOISE_BOUNDS = (-3.5, 3.0), (-9.0, 1.0)  # logarithms
JITTER = 1e-6  # on the diagonal, so that equal points can be factorised
STEPS = 25  # of L-BFGS-B at most: they take most of a proposal's time


class GaussianProcess:
    """Fitted to values at points.

    Args:
        x: shape (points, dimensions), in the unit cube.
        y: shape (points,).
        alike: for how many values each one stands; its noise is so much less. Shape (points,).
    """

    def __init__(self, cube: UnitCube, x: Floats, y: Floats, alike: Floats) -> None:
        self.cube, self.x, self.mean = cube, x, float(y.mean())
        self.y, self.alike = y - self.mean, alike
        d = x.shape[1]
        self.usual = np.append(np.full(d, USUAL_SCALE * math.sqrt(d)), USUAL_NOISE)
        self.usual = np.log(self.usual)
        self.spread = np.append(np.full(d, SCALE_SPREAD), NOISE_SPREAD)
        squares = cube.squares(x, x)
        found = scipy.optimize.minimize(
            self._loss,
            self.usual,
            (squares,),
            jac=True,
            method="L-BFGS-B",
            bounds=[SCALE_BOUNDS] * d + [NOISE_BOUNDS],
            options={"maxiter": STEPS},
        )
        self.scales = np.exp(-2 * found.x[:-1])
        self.noise = math.exp(found.x[-1]) / alike + JITTER  # of each value
        self._solve()
        self.variance = max(float(self.y @ self.weights) / len(y), 1e-8)

    def _solve(self) -> None:
        self.columns = self._scaled(self.x)
        kernel = self._kernel(self.columns) + np.diag(self.noise)
        self.root = scipy.linalg.cholesky(kernel, lower=True)
        self.weights = scipy.linalg.cho_solve((self.root, True), self.y)

    def _scaled(self, points: Floats) -> Floats:
        return np.asarray(self.cube.columns(points) * np.sqrt(self.scales[self.cube.owners]))

    def _kernel(self, columns: Floats) -> Floats:
        """Shape (points of `columns`, points of the process)."""
        return matern(cdist(columns, self.columns, "sqeuclidean"))[0]

    def _loss(self, theta: Floats, squares: Floats) -> tuple[float, Floats]:
        """How unlikely logarithms of length scales and noise are, and its gradient."""
        scales, noise, n = np.exp(-2 * theta[:-1]), math.exp(theta[-1]), len(self.y)
        kernel, slope = matern(squares @ scales)
        kernel[np.diag_indices(n)] += noise / self.alike + JITTER
        # LAPACK's own calls: SciPy's checks take as long as these small matrices
        root, _ = scipy.linalg.lapack.dpotrf(kernel, lower=1, overwrite_a=1)
        weights, _ = scipy.linalg.lapack.dpotrs(root, self.y, lower=1)
        variance = max(float(self.y @ weights) / n, 1e-8)
        pull = (theta - self.usual) / self.spread
        loss = 0.5 * n * math.log(variance) + float(np.log(np.diag(root)).sum())
        half, _ = scipy.linalg.lapack.dpotri(root, lower=1)
        half = np.tril(half)
        inverse = half + half.T - np.diag(np.diag(half))
        inner = 0.5 * (inverse - np.outer(weights, weights) / variance)
        by_scale = (inner * slope).ravel() @ squares.reshape(n * n, -1) * scales
        gradient = (
            np.append(by_scale, noise * (np.diag(inner) / self.alike).sum()) + pull / self.spread
        )
        return loss + 0.5 * float(pull @ pull), gradient

    def believe(self, points: Floats) -> None:
        """Take the expected values at these points for seen: the doubt falls around them.

        Args:
            points: shape (points, dimensions).
        """
        if len(points):
            expected, _ = self.expect(points)
            self.y = np.append(self.y, expected - self.mean)
            self.x = np.vstack([self.x, points])
            # as if they were exact: else the next proposals would lie there, too
            self.noise = np.append(self.noise, np.full(len(points), JITTER))
            self._solve()

    def expect(self, points: Floats) -> tuple[Floats, Floats]:
        """Expected values at points, and their standard deviations. Shapes (points,)."""
        kernel = self._kernel(self._scaled(points))
        part = scipy.linalg.solve_triangular(self.root, kernel.T, lower=True)
        left = np.maximum(1 - np.square(part).sum(axis=0), 1e-12)
        return self.mean + kernel @ self.weights, np.sqrt(self.variance * left)

    def log_improvement(self, points: Floats, best: float) -> Floats:
        """The logarithm of the expected improvement over `best` at points. Shape (points,)."""
        expected, deviation = self.expect(points)
        z = (expected - best) / deviation
        near = np.maximum(z, -5.0)
        density = np.exp(-0.5 * near**2) / math.sqrt(2 * math.pi)
        gain = density + near * scipy.special.ndtr(near)
        # far below the best the sum cancels: its leading term (Ament et al., 2023)
        far = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(np.maximum(-z, 1.0))
        log_gain = np.where(z > -5, np.log(np.maximum(gain, 1e-300)), far)
        return np.asarray(log_gain + np.log(deviation))


def matern(squared: Floats) -> tuple[Floats, Floats]:
    """The kernel at squared distances, and the factor of its derivative by a squared distance and a
    logarithmic length scale.
    """
    r = np.sqrt(5.0 * squared)
    decay = np.exp(-r)
    return (1 + r + r * r / 3) * decay, (5.0 / 3.0) * (1 + r) * decay
