"""What a training has come to: one value, and what the run, the registry and the card say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from matplotlib.figure import Figure

from fl.champion import Contender
from fl.code_hash import model_code_hash
from fl.contract_file import contract_hash
from fl.model_card import CardFacts, model_card
from fl.operating_point import OperatingPoint
from fl.public_test import PublicEvaluation
from fl.spec import ModelSpec
from tasks.evaluate import RoundEvaluation, headline
from tasks.plots import figures_of, history_figure, roc_figure
from tasks.run_fields import package_version, strategy_in_words
from tasks.training import TrainingProgress

_COURSES = (("auc", "AUC"), ("accuracy", "Accuracy"), ("epsilon", "Epsilon"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of a training.

    Attributes:
        training: where it stands, all rounds behind it.
        evaluation: of its final weights, on all hospitals' held-out rows.
        epsilon: what it has spent, at the plan's delta.
        hospitals: hospitals in the closing evaluation.
        history: figures by rounds trained.
        public: of its final weights, on the public test set; None without one.
        made_on: today.
    """

    training: TrainingProgress
    evaluation: RoundEvaluation
    epsilon: float
    hospitals: int
    history: Sequence[Mapping[str, float]]
    public: PublicEvaluation | None
    made_on: date

    @property
    def served_spec(self) -> ModelSpec:
        """The specification with the threshold that the closing evaluation found."""
        spec, threshold = self.training.spec, self.evaluation.figures.threshold
        if threshold is None:
            return spec
        return spec.model_copy(update={"operating_point": OperatingPoint(threshold=threshold)})

    @property
    def public_metrics(self) -> dict[str, float]:
        """Figures on the public test set, named ``public_…``."""
        metrics = {} if self.public is None else self.public.metrics
        return {f"public_{name}": value for name, value in metrics.items()}

    def metrics(self) -> dict[str, float]:
        """Returns the figures that the table of runs shows, by name."""
        return {
            **self.evaluation.metrics(),
            "epsilon": self.epsilon,
            "delta": self.training.plan.delta,
            "rounds_trained": float(self.training.completed),
            **self.public_metrics,
        }

    def contender(self, version: str) -> Contender:
        """Returns the registered version as the champion's rule sees it."""
        return Contender(
            version=version,
            purpose=self.training.purpose,
            contract=contract_hash(self.training.spec.contract),
            auc=self.evaluation.figures.auc,
            public_test=self.training.public_test,
            public_auc=self.public_metrics.get("public_auc"),
        )

    def version_tags(self) -> dict[str, str]:
        """Returns the tags of the registered version; absent figures are left out."""
        contender = self.contender("")
        figures = {name: repr(value) for name, value in self.metrics().items()}
        return {
            **figures,
            "purpose": contender.purpose,
            "data_contract": contender.contract,
            "public_test": contender.public_test or "",
            "training_id": str(self.training.training_id),
            "model_version": str(self.training.model_version),
            "code_hash": model_code_hash(self.training.spec),
        }

    def describe(self) -> str:
        """Returns what the model registry says of the version, Markdown."""
        training = self.training
        figures = headline(self.evaluation.metrics())
        text = (
            f"{training.completed} rounds; on all hospitals' held-out rows {figures}; "
            f"epsilon {self.epsilon:.2f} at delta {training.plan.delta:g}; "
            f"training {training.training_id}"
        )
        if self.public is not None:
            public = ", ".join(f"{n} {v:.3f}" for n, v in self.public.metrics.items())
            text += f"\n\nOn the public test set: {self.public.problem or public}"
        return text

    def card(self) -> str:
        """Returns the model card."""
        training, figures = self.training, self.evaluation.figures
        return model_card(
            training.spec,
            CardFacts(
                made_on=self.made_on,
                training_id=str(training.training_id),
                model_version=training.model_version,
                requested_by=training.requested_by,
                purpose=training.purpose,
                strategy=strategy_in_words(training.strategy),
                rounds=training.completed,
                hospitals=self.hospitals,
                least_cohort=training.least_cohort,
                plan=training.plan,
                epsilon=self.epsilon,
                threshold=self.served_spec.operating_point.cut,
                figures=self.evaluation.metrics(),
                records=figures.records,
                positives=figures.positives,
                subgroups=self.evaluation.by_group(),
                public_test=training.public_test,
                public={} if self.public is None else self.public.metrics,
                code_hash=model_code_hash(training.spec),
                package_version=package_version(),
            ),
        )

    def pictures(self) -> dict[str, Figure]:
        """Returns the pictures by file name."""
        drawn = figures_of(self.evaluation)
        for name, label in _COURSES:
            drawn[name] = history_figure(self.history, name, label)
        if self.public is not None and self.public.roc is not None:
            drawn["public_roc"] = roc_figure(self.public.roc)
            drawn["public_roc"].axes[0].set_title("ROC, public test set")
        return {f"plots/{name}.png": figure for name, figure in drawn.items()}
