"""Track in Weights & Biases: one run per job."""

from __future__ import annotations

from retort.constants import HEATMAPS, Role
from retort.protocol.events import AnyEvent, ArtifactEvent, FailedEvent, FinishedEvent, MetricEvent
from retort.tracking.session import MAPS, TrackerConfig, figures


class WeightsAndBiases:
    """A W&B run with the job's id; later attempts continue it."""

    def __init__(self, config: TrackerConfig) -> None:
        import wandb

        about = config.spec["tracking"]["wandb"]
        config.folder.mkdir(parents=True, exist_ok=True)
        self._wandb = wandb
        self._run = wandb.init(
            project=about["project"],
            entity=about["entity"],
            mode=about["mode"],
            id=config.job_id,
            resume="allow" if about["mode"] == "online" else None,
            name=config.spec["name"],
            config={"spec": config.spec, **config.tags},
            dir=str(config.folder),
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                silent=True,
                init_timeout=config.timeout_s,
                finish_timeout=config.timeout_s,
                finish_timeout_raises=True,
            ),
        )
        for role in Role:
            self._run.define_metric(f"{role}/epoch", hidden=True)
            self._run.define_metric(f"{role}/*", step_metric=f"{role}/epoch")

    def metric(self, event: MetricEvent) -> None:
        """Log the values of one epoch of one role."""
        values = {f"{event.role}/{name}": value for name, value in event.values.items() if value is not None}
        self._run.log({f"{event.role}/epoch": event.step, **values})

    def artifact(self, event: ArtifactEvent) -> None:
        """Log a file as an artifact, an epoch's maps as an image."""
        if event.name.startswith(HEATMAPS):
            image = self._wandb.Image(event.path)
            self._run.log({f"{event.role}/epoch": event.metadata["epoch"], f"{event.role}/{MAPS}": image})
            return
        kind = "model" if event.name.endswith(".pt") else "report"
        artifact = self._wandb.Artifact(f"{self._run.id}-{event.name}", type=kind)
        artifact.add_file(event.path, name=event.name)
        self._run.log_artifact(artifact)

    def end(self, event: AnyEvent) -> None:
        """Log the final figures, and end the run with the attempt's state."""
        if isinstance(event, FinishedEvent):
            self._run.summary.update({f"final/{name}": value for name, value in figures(event.result).items()})
        if isinstance(event, FailedEvent):
            self._run.summary["failure"] = f"{event.failure.code}: {event.failure.message}"
        self._run.finish(exit_code=0 if isinstance(event, FinishedEvent) else 1)
