"""MLflow: one run per job, found again by its tag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retort import images
from retort.constants import HEATMAPS
from retort.protocol.events import AnyEvent, ArtifactEvent, FailedEvent, FinishedEvent, MetricEvent
from retort.tracking.session import MAPS, TrackerConfig, figures, flat

JOB_TAG = "retort.job_id"
_ENDED = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_PARAMS, _METRICS = 100, 500
"""MLflow takes so many at a time."""
_LONGEST = 5000
"""Characters of a value."""


class Mlflow:
    """An MLflow run in the spec's experiment; later attempts continue it."""

    def __init__(self, config: TrackerConfig) -> None:
        from mlflow import MlflowClient, entities

        about = config.spec["tracking"]["mlflow"]
        config.folder.mkdir(parents=True, exist_ok=True)
        self._entities = entities
        self._client = MlflowClient(tracking_uri=config.address)
        experiment = self._experiment(about["experiment"], config)
        known = self._client.search_runs([experiment], filter_string=f"tags.`{JOB_TAG}` = '{config.job_id}'")
        if known:
            self._run_id = known[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
            return
        tags = {JOB_TAG: config.job_id, **{f"retort.{name}": value for name, value in config.tags.items()}}
        self._run_id = self._client.create_run(experiment, run_name=config.spec["name"], tags=tags).info.run_id
        params = [entities.Param(name, str(value)[:_LONGEST]) for name, value in flat(config.spec).items()]
        for start in range(0, len(params), _PARAMS):
            self._client.log_batch(self._run_id, params=params[start : start + _PARAMS])

    def _experiment(self, name: str, config: TrackerConfig) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # A server keeps files where it likes; without one they lie beside the database.
        local = None if config.address.startswith("http") else (config.folder / "mlartifacts").as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=local))
        except Exception:
            found = self._client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)  # another job was faster

    def metric(self, event: MetricEvent) -> None:
        """Log the values of one epoch of one role."""
        values = {f"{event.role}/{name}": value for name, value in event.values.items() if value is not None}
        self._log(values, at=event.at, step=event.step)

    def artifact(self, event: ArtifactEvent) -> None:
        """Log a file as an artifact, an epoch's maps as an image."""
        if not event.name.startswith(HEATMAPS):
            self._client.log_artifact(self._run_id, event.path)
            return
        self._client.log_image(
            self._run_id, images.picture(Path(event.path)), key=f"{event.role}/{MAPS}", step=event.metadata["epoch"],
            timestamp=int(event.at * 1000), synchronous=True,
        )  # fmt: skip

    def end(self, event: AnyEvent) -> None:
        """Log the final figures, and end the run with the attempt's state."""
        if isinstance(event, FinishedEvent):
            found = {f"final/{name}": value for name, value in figures(event.result).items()}
            self._log(found, at=event.at, step=0)
        if isinstance(event, FailedEvent):
            failure = f"{event.failure.code}: {event.failure.message}"
            self._client.set_tag(self._run_id, "retort.failure", failure[:_LONGEST])
        self._client.set_terminated(self._run_id, _ENDED[event.type])

    def _log(self, values: dict[str, Any], *, at: float, step: int) -> None:
        metrics = [self._entities.Metric(name, value, int(at * 1000), step) for name, value in values.items()]
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _METRICS])
