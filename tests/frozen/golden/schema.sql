CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE api_keys (
	id VARCHAR(36) NOT NULL, 
	kind VARCHAR(8) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	prefix VARCHAR(16) NOT NULL, 
	secret_sha256 VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	scopes JSON NOT NULL, 
	parent_id VARCHAR(36), 
	created_at DOUBLE NOT NULL, 
	created_by VARCHAR(63) NOT NULL, 
	expires_at DOUBLE, 
	revoked_at DOUBLE, 
	last_used_at DOUBLE, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_api_keys PRIMARY KEY (id), 
	CONSTRAINT uq_api_keys_secret_sha256 UNIQUE (secret_sha256)
);

CREATE INDEX ix_api_keys_expires_at ON api_keys (expires_at);

CREATE INDEX ix_api_keys_parent_id ON api_keys (parent_id);

CREATE INDEX ix_api_keys_project_id ON api_keys (project, id);

CREATE TABLE artifacts (
	id VARCHAR(36) NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	attempt INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	media_type VARCHAR(255) NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	metadata JSON NOT NULL, 
	created_at DOUBLE NOT NULL, deleted_at DOUBLE, 
	CONSTRAINT pk_artifacts PRIMARY KEY (id), 
	CONSTRAINT fk_artifacts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_artifacts_job_id_name UNIQUE (job_id, name)
);

CREATE INDEX ix_artifacts_deleted ON artifacts (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE INDEX ix_artifacts_key ON artifacts ("key");

CREATE TABLE attempts (
	job_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	fence INTEGER NOT NULL, 
	worker VARCHAR(255) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	device VARCHAR(63), 
	state VARCHAR(16) NOT NULL, 
	started_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	exit_code INTEGER, 
	failure JSON, 
	journal_offset BIGINT NOT NULL, confinement JSON, 
	CONSTRAINT pk_attempts PRIMARY KEY (job_id, number), 
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE audit_log (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	key_id VARCHAR(255) NOT NULL, 
	action VARCHAR(255) NOT NULL, 
	target VARCHAR(255) NOT NULL, 
	address VARCHAR(255) NOT NULL, 
	request_id VARCHAR(255) NOT NULL, 
	outcome VARCHAR(63) NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_audit_log PRIMARY KEY (id)
);

CREATE INDEX ix_audit_log_at ON audit_log (at);

CREATE INDEX ix_audit_log_project_id ON audit_log (project, id);

CREATE TABLE dataset_previews (
	dataset_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_dataset_previews PRIMARY KEY (dataset_id, number), 
	CONSTRAINT fk_dataset_previews_dataset_id FOREIGN KEY(dataset_id) REFERENCES datasets (id) ON DELETE CASCADE
);

CREATE INDEX ix_dataset_previews_key ON dataset_previews ("key");

CREATE TABLE datasets (
	id VARCHAR(36) NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	name VARCHAR(80) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	upload_id VARCHAR(36), 
	source_sha256 VARCHAR(64), 
	sha256 VARCHAR(64), 
	size_bytes BIGINT, 
	"key" VARCHAR(255), 
	summary JSON, 
	attempts INTEGER NOT NULL, 
	worker VARCHAR(255), 
	lease_until DOUBLE, 
	created_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	deleted_at DOUBLE, 
	CONSTRAINT pk_datasets PRIMARY KEY (id)
);

CREATE INDEX ix_datasets_key ON datasets ("key");

CREATE INDEX ix_datasets_project_name_id ON datasets (project, name, id);

CREATE INDEX ix_datasets_state_id ON datasets (state, id);

CREATE INDEX ix_datasets_upload_id ON datasets (upload_id);

CREATE TABLE events (
	job_id VARCHAR(36) NOT NULL, 
	seq BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	n INTEGER, 
	type VARCHAR(16) NOT NULL, 
	level VARCHAR(8), 
	message TEXT, 
	data JSON NOT NULL, 
	at DOUBLE NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (job_id, seq), 
	CONSTRAINT fk_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_events_job_id_attempt_n UNIQUE (job_id, attempt, n)
);

CREATE INDEX ix_events_warned ON events (job_id, seq) WHERE level IN ('warning', 'error');

CREATE TABLE garbage (
	"key" VARCHAR(255) NOT NULL, 
	phase VARCHAR(8) NOT NULL, 
	at DOUBLE NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	CONSTRAINT pk_garbage PRIMARY KEY ("key")
);

CREATE INDEX ix_garbage_phase_at ON garbage (phase, at);

CREATE TABLE idempotency_keys (
	"key" VARCHAR(255) NOT NULL, 
	request_sha256 VARCHAR(64) NOT NULL, 
	made_id VARCHAR(36) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY (project, owner, "key")
);

CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);

CREATE INDEX ix_idempotency_keys_made_id ON idempotency_keys (made_id);

CREATE TABLE installation (
	name VARCHAR(63) NOT NULL, 
	value VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_installation PRIMARY KEY (name)
);

CREATE TABLE jobs (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	stage VARCHAR(63), 
	progress DOUBLE NOT NULL, 
	eta_s DOUBLE, 
	spec JSON NOT NULL, 
	spec_digest VARCHAR(64) NOT NULL, 
	attempt INTEGER NOT NULL, 
	fence INTEGER NOT NULL, 
	retries_left INTEGER NOT NULL, 
	worker VARCHAR(255), 
	lease_until DOUBLE, 
	last_seq INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	best JSON, 
	result JSON, 
	failure JSON, 
	created_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, owner VARCHAR(63) DEFAULT 'default' NOT NULL, priority INTEGER DEFAULT '0' NOT NULL, gpus INTEGER DEFAULT '1' NOT NULL, claimable_at DOUBLE DEFAULT '0' NOT NULL, expires_at DOUBLE, claimed_at DOUBLE, run_s DOUBLE DEFAULT '0' NOT NULL, finish_early BOOLEAN DEFAULT 0 NOT NULL, adjustments JSON, recovery JSON, parent_id VARCHAR(36), sweep_id VARCHAR(36), retries INTEGER DEFAULT '0' NOT NULL, require_gpu BOOLEAN, labels JSON DEFAULT '{}' NOT NULL, search TEXT DEFAULT '' NOT NULL, deleted_at DOUBLE, purged_at DOUBLE, keep BOOLEAN DEFAULT 0 NOT NULL, project VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id)
);

CREATE INDEX ix_jobs_deleted ON jobs (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE INDEX ix_jobs_ended ON jobs (finished_at) WHERE finished_at IS NOT NULL;

CREATE INDEX ix_jobs_expiry ON jobs (expires_at) WHERE expires_at IS NOT NULL;

CREATE INDEX ix_jobs_parent_id ON jobs (parent_id);

CREATE INDEX ix_jobs_project_id ON jobs (project, id);

CREATE INDEX ix_jobs_queue ON jobs (state, priority, owner, id);

CREATE INDEX ix_jobs_saved ON jobs (finished_at) WHERE recovery IS NOT NULL;

CREATE INDEX ix_jobs_state_id ON jobs (state, id);

CREATE INDEX ix_jobs_sweep_id ON jobs (sweep_id);

CREATE TABLE metrics (
	job_id VARCHAR(36) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	step BIGINT NOT NULL, 
	attempt INTEGER NOT NULL, 
	value DOUBLE, 
	at DOUBLE NOT NULL, 
	CONSTRAINT pk_metrics PRIMARY KEY (job_id, role, name, step, attempt), 
	CONSTRAINT fk_metrics_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE "models" (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(80) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	"key" VARCHAR(255) NOT NULL, 
	role VARCHAR(16), 
	architecture VARCHAR(63), 
	classes JSON, 
	imgsz INTEGER, 
	metrics JSON, 
	dataset_digest VARCHAR(64), 
	job_id VARCHAR(36), 
	created_at DOUBLE NOT NULL, 
	deleted_at DOUBLE, 
	project VARCHAR(63) DEFAULT 'default' NOT NULL, 
	owner VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT pk_models PRIMARY KEY (id), 
	CONSTRAINT fk_models_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_models_project_name_sha256 UNIQUE (project, name, sha256)
);

CREATE INDEX ix_models_key ON models ("key");

CREATE INDEX ix_models_project_id ON models (project, id);

CREATE TABLE predictions (
	id VARCHAR(36) NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	image BLOB NOT NULL, 
	confidence DOUBLE NOT NULL, 
	imgsz INTEGER NOT NULL, 
	weights VARCHAR(255) NOT NULL, 
	claimed_at DOUBLE, 
	answer JSON, 
	created_at DOUBLE NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_predictions PRIMARY KEY (id)
);

CREATE INDEX ix_predictions_claimed_at_created_at ON predictions (claimed_at, created_at);

CREATE INDEX ix_predictions_project_id ON predictions (project, id);

CREATE TABLE projects (
	name VARCHAR(63) NOT NULL, 
	created_at DOUBLE NOT NULL, 
	CONSTRAINT pk_projects PRIMARY KEY (name)
);

CREATE TABLE quotas (
	project VARCHAR(63) NOT NULL, 
	queued_jobs INTEGER, 
	running_jobs INTEGER, 
	gpu_hours DOUBLE, 
	stored_bytes BIGINT, 
	uploads INTEGER, 
	CONSTRAINT pk_quotas PRIMARY KEY (project)
);

CREATE TABLE reviews (
	job_id VARCHAR(36) NOT NULL, 
	image VARCHAR(128) NOT NULL, 
	decision VARCHAR(8) NOT NULL, 
	boxes JSON, 
	reviewer VARCHAR(63) NOT NULL, 
	at DOUBLE NOT NULL, 
	seen BOOLEAN NOT NULL, 
	CONSTRAINT pk_reviews PRIMARY KEY (job_id, image), 
	CONSTRAINT fk_reviews_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE TABLE "sweeps" (
	id VARCHAR(36) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	spec JSON NOT NULL, 
	spec_digest VARCHAR(64) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	priority INTEGER NOT NULL, 
	retries INTEGER NOT NULL, 
	num_trials INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	best INTEGER, 
	failure JSON, 
	created_at DOUBLE NOT NULL, 
	finished_at DOUBLE, 
	deleted_at DOUBLE, 
	keep BOOLEAN DEFAULT 0 NOT NULL, 
	project VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT pk_sweeps PRIMARY KEY (id)
);

CREATE INDEX ix_sweeps_project_id ON sweeps (project, id);

CREATE INDEX ix_sweeps_state_id ON sweeps (state, id);

CREATE TABLE transitions (
	id INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	kind VARCHAR(5) NOT NULL, 
	name VARCHAR(63) NOT NULL, 
	at DOUBLE NOT NULL, 
	actor VARCHAR(255) NOT NULL, 
	reason TEXT, 
	attempt INTEGER NOT NULL, 
	CONSTRAINT pk_transitions PRIMARY KEY (id), 
	CONSTRAINT fk_transitions_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);

CREATE INDEX ix_transitions_job_id_id ON transitions (job_id, id);

CREATE TABLE trials (
	sweep_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	job_id VARCHAR(36), 
	parameters JSON NOT NULL, 
	pruned BOOLEAN NOT NULL, 
	outcome VARCHAR(16), 
	value DOUBLE, 
	reason TEXT, 
	begun_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	CONSTRAINT pk_trials PRIMARY KEY (sweep_id, number), 
	CONSTRAINT fk_trials_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT fk_trials_sweep_id FOREIGN KEY(sweep_id) REFERENCES sweeps (id), 
	CONSTRAINT uq_trials_job_id UNIQUE (job_id)
);

CREATE TABLE upload_parts (
	upload_id VARCHAR(36) NOT NULL, 
	number INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	"key" VARCHAR(255), 
	CONSTRAINT pk_upload_parts PRIMARY KEY (upload_id, number), 
	CONSTRAINT fk_upload_parts_upload_id FOREIGN KEY(upload_id) REFERENCES uploads (id) ON DELETE CASCADE
);

CREATE INDEX ix_upload_parts_key ON upload_parts ("key");

CREATE INDEX ix_upload_parts_sha256 ON upload_parts (sha256);

CREATE TABLE uploads (
	id VARCHAR(36) NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	name VARCHAR(255), 
	size_bytes BIGINT NOT NULL, 
	received_bytes BIGINT NOT NULL, 
	sha256 VARCHAR(64), 
	part_bytes INTEGER NOT NULL, 
	num_parts INTEGER NOT NULL, 
	created_at DOUBLE NOT NULL, 
	touched_at DOUBLE NOT NULL, source_url VARCHAR(2048), failure JSON, attempts INTEGER DEFAULT '0' NOT NULL, worker VARCHAR(255), lease_until DOUBLE, 
	CONSTRAINT pk_uploads PRIMARY KEY (id)
);

CREATE INDEX ix_uploads_project_id ON uploads (project, id);

CREATE INDEX ix_uploads_state_touched_at ON uploads (state, touched_at);

CREATE TABLE webhook_deliveries (
	id VARCHAR(36) NOT NULL, 
	webhook_id VARCHAR(36) NOT NULL, 
	event VARCHAR(32) NOT NULL, 
	job_id VARCHAR(36), 
	payload TEXT NOT NULL, 
	state VARCHAR(9) NOT NULL, 
	attempts INTEGER NOT NULL, 
	next_at DOUBLE, 
	status INTEGER, 
	error TEXT, 
	duration_ms DOUBLE, 
	created_at DOUBLE NOT NULL, 
	ended_at DOUBLE, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_webhook_deliveries PRIMARY KEY (id), 
	CONSTRAINT fk_webhook_deliveries_webhook_id FOREIGN KEY(webhook_id) REFERENCES webhooks (id)
);

CREATE INDEX ix_webhook_deliveries_created_at ON webhook_deliveries (created_at);

CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (next_at) WHERE next_at IS NOT NULL;

CREATE INDEX ix_webhook_deliveries_webhook_id_id ON webhook_deliveries (webhook_id, id);

CREATE TABLE webhooks (
	id VARCHAR(36) NOT NULL, 
	url VARCHAR(2048) NOT NULL, 
	description VARCHAR(255) NOT NULL, 
	events JSON NOT NULL, 
	secret VARCHAR(128) NOT NULL, 
	old_secret VARCHAR(128), 
	old_secret_until DOUBLE, 
	enabled BOOLEAN NOT NULL, 
	disabled_reason TEXT, 
	created_at DOUBLE NOT NULL, 
	project VARCHAR(63) NOT NULL, 
	owner VARCHAR(63) NOT NULL, 
	CONSTRAINT pk_webhooks PRIMARY KEY (id)
);

CREATE INDEX ix_webhooks_project_id ON webhooks (project, id);

CREATE TABLE workers (
	name VARCHAR(255) NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	slots INTEGER NOT NULL, 
	gpus INTEGER NOT NULL, 
	started_at DOUBLE NOT NULL, 
	seen_at DOUBLE NOT NULL, devices JSON DEFAULT '[]' NOT NULL, left_at DOUBLE, confinement JSON, drained_at DOUBLE, 
	CONSTRAINT pk_workers PRIMARY KEY (name)
);
