"""The environment, read in one place: variables named RETORT_*, with defaults for one machine."""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import quote, urlsplit, urlunsplit

from platformdirs import user_data_path
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from retort.confinement import Mode, Part
from retort.errors import UserError
from retort.images import MOST_PIXELS
from retort.redaction import HIDDEN, redact

_Ended = Literal["succeeded", "failed", "cancelled", "expired"]
_ENDED: tuple[str, ...] = get_args(_Ended)
_Seconds = Annotated[float, Field(ge=0)]


def _empty_as_none(value: object) -> object:
    return None if value == "" else value


_Unbounded = Annotated[float | None, Field(gt=0), BeforeValidator(_empty_as_none)]
_Forever = Annotated[float | None, Field(ge=0), BeforeValidator(_empty_as_none)]


class Settings(BaseSettings):
    """Settings of the operator; empty URLs mean the default inside *home*."""

    model_config = SettingsConfigDict(
        env_prefix="RETORT_", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    home: Path = Field(default_factory=lambda: user_data_path("retort"))
    """Folder for everything the embedded default keeps."""
    database_url: str = ""
    """SQLAlchemy URL; empty is SQLite in ``home``. PostgreSQL: postgresql+psycopg://user@host/name."""
    database_password: SecretStr = SecretStr("")
    """Password for that URL, as it is: in a URL, characters such as @ / # % need escaping."""
    broker_url: str = ""
    """Celery broker; empty is an SQLite file of its own in ``home``. Redis: redis://host:6379/0."""
    broker_password: SecretStr = SecretStr("")
    """Password for that URL, as it is."""
    store_url: str = ""
    """Where artifacts are kept; empty is a folder in ``home``."""
    model_dir: Path | None = None
    """Folder of weight files that specs name; empty is ``models`` in ``home``."""
    work_dir: Path | None = None
    """Folder of the runs' working folders; empty is ``work`` in ``home``."""
    data_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders in which ``data.path`` may lie: one, several with colons between them, or a JSON list; empty is none for
    clients, and every one for operators and ``retort run``."""
    wandb_projects: Annotated[tuple[str, ...], NoDecode] = ()
    """Projects of Weights & Biases in which clients may write, as entity/project with ``*`` for any, commas between."""
    mlflow_experiments: Annotated[tuple[str, ...], NoDecode] = ()
    """Experiments on ``mlflow_uri`` in which clients may write, with ``*`` for any, and commas between them."""
    fetch_weights: bool = True
    """Whether a worker may download published weights into the model folder."""
    pinned_weights_only: bool = False
    """Refuse files of published names whose digests are not known, here or in ``pins.json`` of the model folder."""
    dataset_dir: Path | None = None
    """Folder of the known data sets; empty is ``datasets`` in ``home``."""
    fetch_datasets: bool = True
    """Whether a worker may download known data sets into that folder."""
    unusable_share: float = Field(default=0.1, ge=0, le=1)
    """A job is refused where a larger share of a split's images cannot be used."""
    max_image_pixels: int = Field(default=MOST_PIXELS, ge=100, le=MOST_PIXELS)
    """An image of more pixels by its head is not decoded, and cannot be used."""
    tracking_dir: Path | None = None
    """Folder of what trackers keep on this machine; empty is ``tracking`` in ``home``."""
    mlflow_uri: str = ""
    """MLflow's tracking server, http://host:5000; empty is an SQLite file in the tracking folder."""
    tracking_timeout_s: float = Field(default=60.0, gt=0)
    """A tracker that takes longer over one thing is switched off; a job's end waits no longer for all of them."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65_535)
    url: str = ""
    """Address of the service for clients; empty is http://host:port."""
    browser_url: str = ""
    """Address that commands print for people's browsers; empty is that for clients."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Further host names under which clients reach the service, with commas between them; others are refused."""
    max_connections: int = Field(default=4096, ge=16)
    """Connections that the API holds at a time; more are refused."""
    max_streams: int = Field(default=2000, ge=1)
    """Event streams that the API sends at a time."""
    max_streams_each: int = Field(default=200, ge=1)
    """The same to one caller."""
    max_queued_jobs: Annotated[int | None, Field(ge=0), BeforeValidator(_empty_as_none)] = None
    """Jobs of one project that wait at a time, unless a quota is set for it; empty is no limit."""
    max_running_jobs: Annotated[int | None, Field(ge=0), BeforeValidator(_empty_as_none)] = None
    """Jobs of one project that run at a time; more wait."""
    max_gpu_hours: _Forever = None
    """GPU hours of one project in a calendar month."""
    max_stored_bytes: Annotated[int | None, Field(ge=0), BeforeValidator(_empty_as_none)] = None
    """Bytes of one project in the store."""
    rate_limit: str = "6000/minute"
    """Requests of one key, such as 100/second; operators are not counted. Empty is no limit."""
    failed_key_limit: str = "60/minute"
    """Invalid keys from one address, after which it is told to wait; valid keys are never refused for it."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses and networks of proxies that are believed about the client's address, with commas between them."""
    trusted_header: str = ""
    """Header in which a trusted proxy names who asks, such as X-Forwarded-User; empty believes none."""
    login_project: str = Field(default="default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$")
    """Project of people who come by a trusted header or by single sign-on, unless a claim names another."""
    login_role: Literal["reader", "submitter", "operator"] = "reader"
    """Their role, unless a claim gives another."""
    oidc_issuer: str = ""
    """OpenID Connect provider at which people log in, such as https://id.example.org; empty is none."""
    oidc_client_id: str = ""
    """Client under which the provider knows this service."""
    oidc_client_secret: SecretStr = SecretStr("")
    """Its secret; empty where it is a public client."""
    oidc_device_client_id: str = ""
    """Client of logins on the command line, where the provider wants another for device codes; empty is the same."""
    oidc_device_client_secret: SecretStr = SecretStr("")
    """The secret of that other client."""
    oidc_scopes: str = "openid email profile"
    """What is asked of the provider, with spaces between."""
    oidc_name_claim: str = "email"
    """Claim that names the owner of what a person submits; an e-mail address must be verified."""
    oidc_role_claim: str = "groups"
    """Claim with the values that ``oidc_roles`` maps; dots lead into objects, as in realm_access.roles."""
    oidc_roles: Annotated[dict[str, Literal["reader", "submitter", "operator"]], NoDecode] = Field(default_factory=dict)
    """Roles by the values of that claim, ml-admins=operator,ml-team=submitter; whoever has none of them is refused."""
    oidc_project_claim: str = ""
    """Claim that names the project; empty is ``login_project`` for everybody."""
    oidc_domains: Annotated[tuple[str, ...], NoDecode] = ()
    """Domains of the verified e-mail addresses that may come in, with commas between them; ``*`` is everybody."""
    login_limit: str = "120/minute"
    """Steps of logins from one address, after which it is told to wait; empty is no limit."""
    head_timeout_s: float = Field(default=10.0, gt=0)
    """A connection whose next request's head has not arrived by then is closed."""
    transfer_timeout_s: float = Field(default=30.0, gt=0)
    """A client that for so long sends less than 1 KiB/s of a body, or takes nothing of an answer, is cut off."""
    key: SecretStr = SecretStr("")
    """API key of the command line and the client; empty is the key file in ``home``, for a service on this machine."""
    session_s: float = Field(default=43_200.0, gt=0)
    """For so long a login lasts, of a browser or at a provider on the command line."""
    max_priority: int = Field(default=0, ge=-100, le=100)
    """Highest priority that others than operators may give."""
    max_store_bytes: Annotated[int | None, Field(gt=0), BeforeValidator(_empty_as_none)] = None
    """Most bytes in the store, above which nothing more is taken; empty is no limit."""
    min_free_bytes: int = Field(default=1 << 30, ge=0)
    """Bytes that stay free on the disks of home, store and working folders: below, nothing more is taken."""
    max_epochs: int = Field(default=10_000, ge=1)
    """Most epochs of a training; this and the next ones are ceilings for the fields of specs."""
    max_imgsz: int = Field(default=2048, ge=64)
    """Largest side of images that networks are trained, measured or exported with."""
    max_batch: int = Field(default=1024, ge=2)
    """Most images of a batch, also of one that ``auto`` finds, or of one step of the optimizer."""
    max_seeds: int = Field(default=16, ge=1)
    """Most repetitions of a training."""
    max_arms: int = Field(default=4, ge=0)
    """Most further recipes of one job."""
    max_networks: int = Field(default=16, ge=1)
    """Most networks of one evaluation."""
    max_ensemble: int = Field(default=8, ge=0)
    """Most further teachers."""
    max_unlabelled_ratio: float = Field(default=16.0, gt=0)
    """Most unlabelled images for each labelled one."""
    max_review_images: int = Field(default=100_000, ge=1)
    """Most images that people are asked to look at for one job."""
    max_exports: int = Field(default=16, ge=0)
    """Most exports of one job."""
    max_calibration_images: int = Field(default=10_000, ge=1)
    """Most images that INT8 ranges are taken from."""
    max_aware_epochs: int = Field(default=1000, ge=0)
    """Most epochs of training for a quantized export."""
    max_workspace_gib: float = Field(default=64.0, gt=0)
    """Most memory that an engine may be built in."""
    max_gpus: int = Field(default=16, ge=1)
    """Most GPUs of one job."""
    max_cpu_ranks: int = Field(default=8, ge=1)
    """Most processes of one job on a worker that trains it on its CPU."""
    max_runtime_s: _Unbounded = 2_592_000.0
    """Longest that one job may run, also where its spec sets no limit; empty is for ever."""
    max_queue_s: _Unbounded = 31_536_000.0
    """Longest ``max_queue_s`` of a spec, and that of one that names none; empty is for ever."""
    max_trials: int = Field(default=1000, ge=1)
    """Most trials of a sweep."""
    max_concurrency: int = Field(default=64, ge=1)
    """Most trials of a sweep that are queued or run at a time."""
    max_images: int = Field(default=5_000_000, ge=1)
    """Most images of one job, labelled or not."""
    confinement: Mode = "best"
    """How far a run is confined: as far as the host allows, all or nothing (``strict``), or not at all (``off``)."""
    confinement_without: Annotated[tuple[Part, ...], NoDecode] = ()
    """Parts of the confinement to leave out, with commas between them."""
    run_memory_bytes: int | None = Field(default=None, ge=2 << 30)
    """Most memory of its own that each process of a run on the CPU may ask for; None is as much as there is."""
    slots: int = Field(default=0, ge=0, le=64)
    """Runs that one worker supervises at a time; 0 is one for each GPU, or one on the CPU."""
    cpu_fallback: bool = False
    """Whether a worker whose GPUs cannot be used trains on the CPU; one without GPUs does so anyway."""
    lease_s: float = Field(default=30.0, gt=0)
    """A worker that has not renewed for this long has lost its job."""
    heartbeat_s: float = Field(default=5.0, gt=0)
    """A worker renews at least this often."""
    poll_s: float = Field(default=2.0, gt=0)
    """A worker looks for claimable jobs at least this often, notified or not, and so often after sweeps."""
    reap_s: float = Field(default=5.0, gt=0)
    """Lost jobs are looked for this often."""
    grace_s: float = Field(default=15.0, gt=0)
    """Time between SIGTERM and SIGKILL for a run."""
    setup_timeout_s: float = Field(default=1800.0, gt=0)
    """A run that does not get on for so long while it prepares, exports or reports is ended and tried again."""
    step_timeout_s: float = Field(default=300.0, gt=0)
    """The same between two batches."""
    checkpoint_timeout_s: float = Field(default=420.0, gt=0)
    """The same while it writes its state."""
    keep_saved_s: float = Field(default=604_800.0, ge=0)
    """For so long after its end a job that failed or was cancelled can be retried from what it has saved."""
    keep_last_state_s: float = Field(default=604_800.0, ge=0)
    """For so long after its success a job can be extended from its last state, if it is not pinned; 0 keeps none."""
    keep_jobs_s: Annotated[dict[_Ended, _Seconds], NoDecode] = Field(default_factory=dict)
    """How long ended jobs and sweeps are kept before they go to the trash: seconds, or by state,
    failed=604800,cancelled=86400; a state that is not named is kept for ever."""
    keep_trash_s: float = Field(default=604_800.0, ge=0)
    """For so long what was deleted can be restored."""
    keep_events_s: _Forever = None
    """How long the events of ended jobs are kept; empty is for as long as the job."""
    keep_metrics_s: _Forever = None
    """The same of their curves."""
    keep_audit_s: _Forever = 31_536_000.0
    """Who changed what is known for so long; empty is for ever."""
    keep_ended_keys_s: _Forever = 7_776_000.0
    """For so long API keys, sessions and links are known that have expired or were revoked; empty is for ever."""
    keep_keys_s: _Forever = 604_800.0
    """How long idempotency keys are kept; empty is for ever."""
    keep_checkpoints_s: _Forever = 604_800.0
    """How long after its success a job's checkpoints other than the best and the last are kept; empty is for ever."""
    keep_unreferenced_s: float = Field(default=3600.0, ge=0)
    """How long bytes in the store are kept that nothing points to any more."""
    keep_cache_s: _Forever = 2_592_000.0
    """How long a worker keeps fetched models and compiled code that no run has used; empty is for ever."""
    tidy_s: float = Field(default=900.0, gt=0)
    """How often folders, store and tables are tidied."""
    max_upload_bytes: int = Field(default=100 << 30, ge=1)
    """Largest file that may be uploaded."""
    max_uploads: int = Field(default=16, ge=1)
    """Uploads of a project that may be open at a time."""
    fetch_from: Annotated[tuple[str, ...], NoDecode] = ()
    """Hosts from which files are fetched by URL: data.example.org,*.example.com; * is every public host, empty none."""
    keep_uploads_s: float = Field(default=172_800.0, ge=0)
    """An upload to which nothing was added for so long is dropped; until then its parts need not be sent again."""
    max_dataset_bytes: int = Field(default=200 << 30, ge=1)
    """Largest content of a dataset's archive, unpacked."""
    max_dataset_files: int = Field(default=1_000_000, ge=1)
    """Most files and folders in a dataset's archive."""
    max_intake_s: float = Field(default=7200.0, gt=0)
    """A dataset that a worker has looked through for longer is refused; a file that is fetched for longer, too."""
    max_dataset_cache_bytes: int = Field(default=200 << 30, ge=0)
    """What a worker keeps of registered datasets; the least recently used go first, never those of a running job."""
    max_retries: int = Field(default=3, ge=0)
    """How often a job is tried again after a lost worker or a failure that a retry may help."""
    predictor_idle_s: float = Field(default=86_400.0, ge=0)
    """So long after the last image a worker keeps the program that predicts, with PyTorch loaded; 0: it starts cold."""
    max_predictions: int = Field(default=8, ge=0, le=1000)
    """Images of a project that may wait for their boxes at a time; 0 refuses predictions."""
    max_image_bytes: int = Field(default=16_777_216, ge=1)
    """Largest image that boxes are predicted on."""
    link_secret: SecretStr = SecretStr("")
    """Signs download addresses, the same for several servers; empty makes one in ``home``."""
    webhook_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Private networks that webhooks may reach, over plain HTTP too: 10.1.0.0/16, with commas between them."""
    keep_deliveries_s: float = Field(default=2_592_000.0, ge=0)
    """For so long what was sent to webhooks can be looked up."""
    gpu_hour_price: float | None = Field(default=None, ge=0)
    """Price of one GPU for an hour, from which a spec's cost is estimated; empty tells no cost."""
    currency: str = Field(default="EUR", pattern="^[A-Za-z]{3}$")
    """Of that price."""
    log_json: bool = False
    """Log lines as JSON instead of for people."""

    @property
    def local_dirs(self) -> tuple[Path, ...]:
        """Folders in which data of this machine may lie."""
        return self.data_dirs or (Path("/"),)

    @field_validator("data_dirs", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        """Read a list of folders as people write it."""
        if not isinstance(value, str):
            return value
        folders = json.loads(value) if value.lstrip().startswith("[") else value.split(os.pathsep)
        if not isinstance(folders, list) or not all(isinstance(folder, str) and folder for folder in folders):
            msg = "name a folder, several with colons between them, or a JSON list of folders"
            raise ValueError(msg)
        return tuple(folders)

    @field_validator("allowed_hosts", "trusted_proxies", "oidc_domains", "fetch_from", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        """Read a list with commas between its parts, or a JSON list."""
        if not isinstance(value, str):
            return value
        return json.loads(value) if value.lstrip().startswith("[") else tuple(filter(None, re.split(r"[\s,]+", value)))

    @field_validator("keep_jobs_s", mode="before")
    @classmethod
    def _durations(cls, value: object) -> object:
        """Read one number for all states, or ``state=number`` for some."""
        if isinstance(value, int | float):
            return dict.fromkeys(_ENDED, value)
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        named = [part.partition("=") for part in value.replace(" ", "").split(",") if part]
        plain = [state for state, equals, _ in named if not equals]
        if any(state not in _ENDED for state, equals, _ in named if equals) or (plain and len(named) > 1):
            msg = f"write seconds, or failed=604800,cancelled=86400; the states are {', '.join(_ENDED)}"
            raise ValueError(msg)
        if plain:
            return dict.fromkeys(_ENDED, plain[0])
        return {state: seconds for state, _, seconds in named}

    @field_validator("oidc_roles", mode="before")
    @classmethod
    def _roles(cls, value: object) -> object:
        """Read ``value=role`` with commas between, or a JSON object."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        named = [part.strip().rpartition("=") for part in value.split(",") if part.strip()]
        if any(not group.strip() for group, _, _ in named):
            msg = "write ml-admins=operator,ml-team=submitter, or a JSON object"
            raise ValueError(msg)
        return {group.strip(): role.strip() for group, _, role in named}

    @field_validator("database_url", "broker_url", "store_url", "mlflow_uri", "url", "browser_url", "oidc_issuer")
    @classmethod
    def _readable(cls, value: str) -> str:
        """Refuse addresses that every library would read differently, and quote in parts."""
        parts = urlsplit(value)
        rest = parts.path + parts.query + parts.fragment
        try:
            unescaped = (":" in parts.netloc and "@" in rest) or (parts.port or 0) < 0
        except ValueError:
            unescaped = True
        if unescaped:
            msg = "no readable address: in a password, characters such as @ / # % need escaping"
            raise ValueError(msg)
        return value

    def __repr_args__(self) -> Any:
        """Show settings without the passwords in them."""
        return [(name, redact(value) if isinstance(value, str) else value) for name, value in super().__repr_args__()]

    @field_validator("wandb_projects", "mlflow_experiments", mode="before")
    @classmethod
    def _patterns(cls, value: object) -> object:
        """Read a list of patterns as people write it."""
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    @field_validator("confinement_without", mode="before")
    @classmethod
    def _parts(cls, value: object) -> object:
        """Read a list of parts as people write it."""
        if not isinstance(value, str):
            return value
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        if unknown := [part for part in parts if part not in get_args(Part)]:
            msg = f"{unknown[0]} is no part of the confinement: name some of {', '.join(get_args(Part))}"
            raise ValueError(msg)
        return parts

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        """Read a list of networks with commas between them."""
        given = [one.strip() for one in value.split(",") if one.strip()] if isinstance(value, str) else value
        return tuple(str(ipaddress.ip_network(one)) for one in given) if isinstance(given, list | tuple) else given

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Refuse a variable that is a known one misspelt."""
        names = [f"RETORT_{field.upper()}" for field in cls.model_fields]
        for name in os.environ:
            if name.startswith("RETORT_") and name not in names:
                for close in difflib.get_close_matches(name, names, n=1, cutoff=_MISSPELT):
                    msg = f"{name} is no setting: did you mean {close}?"
                    raise ValueError(msg)
        return given

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.lease_s < 2 * self.heartbeat_s:
            msg = (
                f"RETORT_LEASE_S={self.lease_s:g} is shorter than two heartbeats, RETORT_HEARTBEAT_S="
                f"{self.heartbeat_s:g}: workers would lose their jobs; make it several heartbeats long"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _provider(self) -> Self:
        """Refuse a provider by which nobody, or everybody, could come in."""
        if not self.oidc_issuer:
            return self
        parts = urlsplit(self.oidc_issuer)
        msg = ""
        if not is_confidential(self.oidc_issuer) or parts.query or parts.fragment or "@" in parts.netloc:
            msg = "RETORT_OIDC_ISSUER is no https:// address; plain http is for a provider on this machine alone"
        elif not self.oidc_client_id:
            msg = "RETORT_OIDC_CLIENT_ID is missing: register this service as a client at the provider"
        elif not (self.oidc_roles or self.oidc_domains):
            msg = (
                "say who may come in by RETORT_OIDC_ISSUER: RETORT_OIDC_ROLES maps groups to roles, "
                "RETORT_OIDC_DOMAINS names the domains of e-mail addresses, * for everybody whom the provider knows"
            )
        elif "openid" not in self.oidc_scopes.split():
            msg = "RETORT_OIDC_SCOPES lacks openid, without which the provider says nothing of who somebody is"
        if msg:
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _embedded(self) -> Self:
        home = self.home.expanduser().absolute()
        defaults: dict[str, object] = {
            "home": home,
            "database_url": _with_password(self.database_url, self.database_password)
            or f"sqlite:///{home / 'retort.db'}",
            "broker_url": _with_password(self.broker_url, self.broker_password)
            or f"sqla+sqlite:///{home / 'broker.db'}",
            "store_url": self.store_url or (home / "artifacts").as_uri(),
            "model_dir": self.model_dir or home / "models",
            "dataset_dir": self.dataset_dir or home / "datasets",
            "work_dir": self.work_dir or home / "work",
            "tracking_dir": self.tracking_dir or home / "tracking",
            "url": self.url or f"http://{self.host}:{self.port}",
        }
        for name, value in defaults.items():
            object.__setattr__(self, name, value)
        return self


def is_confidential(url: str) -> bool:
    """Return True if *url* is https, or leads to this machine."""
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname:
        return _is_loopback(parts.hostname)
    return parts.scheme == "https" and bool(parts.hostname)


def _is_loopback(host: str) -> bool:
    """Return True if *host* always means this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ssh_connection() -> list[str]:
    """Return address and port of the client and of the server; empty without SSH."""
    ends = os.environ.get("SSH_CONNECTION", "").split()
    return ends if len(ends) == _SSH_WORDS else []


_SSH_WORDS = 4
"""Address and port there, address and port here."""


def visible_gpus() -> str | None:
    """Return CUDA_VISIBLE_DEVICES, or None where it is not set."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


_SECRET = ("password", "secret", "key", "token")
"""Words in the names of settings whose values nobody is to see."""
_MISSPELT = 0.85
"""Likeness from which an unknown variable is a known one misspelt."""


def _with_password(url: str, password: SecretStr) -> str:
    """Return *url* with the password in it, escaped; it replaces one that stands there."""
    if not url or not password.get_secret_value():
        return url
    parts = urlsplit(url)
    user, host = (parts.username or ""), parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password.get_secret_value(), safe='')}@{host}"))


def explain_settings(error: BaseException) -> UserError | None:
    """Return the error of settings that cannot be read, or None.

    Each wrong variable is named.
    """
    hint = "docs/settings.md lists every setting; an unset one has its default"
    if isinstance(error, SettingsError):
        return UserError(f"a setting cannot be read: {error}", hint=hint, code="bad_settings")
    if not isinstance(error, ValidationError) or error.title != Settings.__name__:
        return None
    told = [_explained(".".join(map(str, one["loc"])), one["input"], one["msg"]) for one in error.errors()]
    return UserError("; ".join(told), hint=hint, code="bad_settings")


def _explained(place: str, given: object, message: str) -> str:
    wrong = message.removeprefix("Value error, ").removeprefix("Input ")
    shown = HIDDEN if any(word in place for word in _SECRET) else redact(str(given))
    return f"RETORT_{place.upper()}={shown}: {wrong}" if place else wrong
