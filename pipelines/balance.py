"""What a manifest makes of the data: how balanced it was, is planned to be, and is as drawn."""

from collections.abc import Mapping

from m4.bias import bias_of
from m4.catalogue import Model
from m4.policy import BiasSummary
from m4.problem import Problem
from m4.realised import Realised
from m4.totals import Totals


class Balance(Model):
    """How balanced some data is under weights or copies.

    Attributes
    ----------
    realised : rate and violations; its `copies` are the sum of the weights
    bias : largest representation and association bias
    """

    realised: Realised
    bias: BiasSummary

    @classmethod
    def of(cls, problem: Problem, plain: Totals, weighted: Totals) -> "Balance":
        """From totals of the data as it is, and of the same data under weights or copies."""
        table = bias_of(problem, plain, weighted)
        return cls(
            realised=Realised.of(problem, weighted),
            bias=BiasSummary(
                representation_bias=table.representation_bias,
                association_bias=table.association_bias,
            ),
        )


class ManifestBalance(Model):
    """The balance of all annotated samples, from the data as it is to the copies drawn of it.

    Attributes
    ----------
    made_from : digest of the annotations, and of what the manifest was drawn with
    original : every sample once
    planned : under the policy's weights
    after_opt_outs : under the policy's weights, without what was opted out; where there are lists,
        and they name no sample or so many that their weights cannot be told from it
    quantised : under the weights that are written, where they are; without what was opted out, too
    drawn : under the copies of the manifest
    """

    made_from: str
    original: Balance
    planned: Balance
    after_opt_outs: Balance | None = None
    quantised: Balance | None = None
    drawn: Balance

    @classmethod
    def of(
        cls, made_from: str, problem: Problem, totals: Mapping[str, Totals]
    ) -> "ManifestBalance":
        """From totals by the names of the attributes above."""
        plain = totals["original"]
        found = {name: Balance.of(problem, plain, each) for name, each in totals.items()}
        return cls.model_validate({"made_from": made_from, **found})

    @property
    def copies_lost(self) -> float | None:
        """Share of the planned copies that opting out takes away, where that is told."""
        if self.after_opt_outs is None:
            return None
        planned = self.planned.realised.copies
        lost = planned - self.after_opt_outs.realised.copies
        return lost / planned if lost else 0.0

    @property
    def stages(self) -> Mapping[str, Balance]:
        """What was measured, under the names that a person reads, in its order."""
        named = {
            "original": self.original,
            "planned": self.planned,
            "after opt-outs": self.after_opt_outs,
            "quantised weights": self.quantised,
            "drawn": self.drawn,
        }
        return {name: balance for name, balance in named.items() if balance is not None}
