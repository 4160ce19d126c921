"""The constraints of a problem written out row by row: what the reference solver works on."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from m4.patterns import Patterns
from m4.problem import Problem, Slack


@dataclass(frozen=True, eq=False)
class Moments:
    """The constraints of a problem on given data: E[q z_j] within +-eps_j E[q t_j].

    Attributes
    ----------
    z : (N, J) CSR, the moments
    mass : (N, L) CSR, the distinct tolerance masses t
    mass_of : (J,) int, the column of `mass` that belongs to constraint j
    eps : (J,) tolerances
    share : (N,) each row's share of all examples
    preferred : (N,) eta u, the weight a row would have without constraints
    eta, cap, penalty, slack : as in the problem; penalty is infinite for hard constraints
    """

    z: sparse.csr_array
    mass: sparse.csr_array
    mass_of: np.ndarray
    eps: np.ndarray
    share: np.ndarray
    preferred: np.ndarray
    eta: float
    cap: float
    penalty: float
    slack: Slack

    @classmethod
    def of(cls, problem: Problem, patterns: Patterns) -> "Moments":
        """Compile the constraints of a problem for some data. Only non-zeros are stored."""
        problem.check(patterns)
        m = len(problem.values)
        known = patterns.observed.astype(np.float64)
        targets = np.asarray(problem.targets)
        z = [sparse.csr_array(known * (patterns.s - targets))]
        mass = [sparse.csr_array(known)]
        owners = []  # the value of each second-order constraint
        for k, value in enumerate(problem.values):
            kept = [
                r for r, label in enumerate(problem.labels) if not problem.leaves_out(value, label)
            ]
            if not kept:
                continue
            among = sparse.csr_array(patterns.y[:, kept].multiply(known[:, [k]]))
            if problem.tolerance == "relative":
                goals = np.asarray(problem.label_targets[k])[kept]
                mass.append(among)
            else:
                goals = np.full(len(kept), targets[k])
            owners += [k] * len(kept)
            z.append(among.multiply(patterns.s[:, [k]]) - among @ sparse.diags_array(goals))
        joint_s, joint_known = problem.joint(patterns.s, patterns.observed)
        joint_targets = np.array([each.target for each in problem.intersections])
        z.append(sparse.csr_array(joint_known * (joint_s - joint_targets)))
        mass.append(sparse.csr_array(joint_known.astype(np.float64)))
        moments = sparse.csr_array(sparse.hstack(z, format="csr"))
        eps = problem.layout.eps
        # A relative tolerance has a mass of its own per constraint, an absolute one its value's.
        crossed = m + np.arange(len(joint_targets))
        relative = problem.tolerance == "relative"
        mass_of = np.arange(len(eps)) if relative else np.array([*range(m), *owners, *crossed])
        return cls(
            moments,
            sparse.csr_array(sparse.hstack(mass, format="csr")),
            mass_of,
            eps,
            patterns.share,
            problem.eta * patterns.utility,
            problem.eta,
            problem.cap,
            problem.price,
            problem.slack,
        )

    def slope(self, duals: np.ndarray) -> np.ndarray:
        """v . z - sum_j eps_j t_j |v_j| for signed multipliers v of shape (J,); (N,)."""
        widths = np.bincount(self.mass_of, self.eps * np.abs(duals), self.mass.shape[1])
        return self.z @ duals - self.mass @ widths

    def allowed(self) -> sparse.csr_array:
        """The tolerances eps_j t_j of every row, (N, J) CSR."""
        belongs = sparse.csr_array(
            (self.eps, (self.mass_of, np.arange(len(self.eps)))),
            shape=(self.mass.shape[1], len(self.eps)),
        )
        return sparse.csr_array(self.mass @ belongs)

    def expected(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(E[q z_j], E[q t_j]) for weights q of shape (N,); both (J,)."""
        weighted = self.share * weights
        return self.z.T @ weighted, (self.mass.T @ weighted)[self.mass_of]

    def violation(self, weights: np.ndarray) -> np.ndarray:
        """How far each constraint is exceeded, max(|E[q z_j]| - eps_j E[q t_j], 0); (J,)."""
        moment, mass = self.expected(weights)
        return np.maximum(np.abs(moment) - self.eps * mass, 0.0)

    def weights(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        """q*(v, mu) = clip(eta u - slope(v) - mu, 0, cap), (N,)."""
        return np.clip(self.preferred - self.slope(duals) - rate_dual, 0.0, self.cap)

    def objective(self, weights: np.ndarray) -> float:
        """1/2 E[(eta u - q)^2]."""
        return float(0.5 * self.share @ (self.preferred - weights) ** 2)

    def dual_value(self, duals: np.ndarray, rate_dual: float) -> float:
        """g(v, mu), a lower bound of the optimum for any |v| <= penalty and any mu."""
        slope = self.slope(duals)
        best = np.clip(self.preferred - slope - rate_dual, 0.0, self.cap)
        inner = 0.5 * (self.preferred - best) ** 2 + (slope + rate_dual) * best
        return float(self.share @ inner) - rate_dual * self.eta
