#!/usr/bin/env bash
# Build the images and try them, without a container engine: buildah builds them on a stand-in base made by debootstrap,
# podman starts them, and everything is removed at the end. Needs root, Debian's tools, and 30 GB.
# One small job runs through the API and the worker; one notebook runs in the lab, where SSH lets in by keys alone.
# With IMAGES=DIR the images are kept in DIR, and taken from there the next time. PARTS=lab tries the lab alone, PARTS=service
# the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

RETORT=${RETORT:-.venv/bin/retort}
PYTHON=${PYTHON:-.venv/bin/python}
SUITE=${SUITE:-bookworm}
PARTS=${PARTS:-service lab}
TOOLS=(buildah podman debootstrap runc curl ssh)
packages() { printf '%s\n' "${@/#ssh/openssh-client}"; }

say() { printf '\n== %s\n' "$*"; }
die() { printf 'test-containers: %s\n' "$*" >&2; exit 1; }

wants() { [[ " $PARTS " == *" $1 "* ]]; }
wants service || wants lab || die "PARTS may be service, lab or both, not $PARTS"
[ "$(uname -s)" = Linux ] || die "containers need Linux"
[ "$(id -u)" = 0 ] || die "debootstrap and buildah's chroot isolation need root; run it with sudo, or on a machine of its own"
[ -x "$RETORT" ] || die "$RETORT is missing; run make setup first"
missing=()
for tool in "${TOOLS[@]}"; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || die "missing: ${missing[*]}"
  say "installing ${missing[*]}"
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q --yes --no-install-recommends $(packages "${missing[@]}")
fi
free_gb=$(df --output=avail -BG /var/tmp | tail -1 | tr -dc 0-9)
[ "$free_gb" -ge 30 ] || die "needs 30 GB free in /var/tmp, and there are $free_gb"

here=$(mktemp -d /var/tmp/retort-containers.XXXXXX)
chmod 755 "$here"
images=${IMAGES:-$here/images}
mkdir -p "$images"
storage=(--root "$images/storage" --runroot "$images/run")
export DISABLE_HC_SYSTEMD=true # health checks are run by hand below
in_podman() { podman "${storage[@]}" --tmpdir "$images/libpod" --runtime runc --cgroup-manager cgroupfs "$@"; }
in_buildah() { TMPDIR=$here/tmp buildah "${storage[@]}" "$@"; }
containers=()

cleanup() {
  status=$?
  trap - EXIT
  if [ "$status" != 0 ]; then
    [ -z "${url:-}" ] || curl -sS --max-time 10 "$url/readyz" >&2 || true
    for name in "${containers[@]}"; do
      say "the last lines of $name"
      in_podman logs --tail 40 "$name" 2>&1 || true
    done
  fi
  [ ${#containers[@]} = 0 ] || in_podman rm --force --time 5 "${containers[@]}" >/dev/null 2>&1 || true
  in_podman unmount --all >/dev/null 2>&1 || true
  # Whatever is still mounted below belongs to no one any more; rm must never reach through it.
  awk -v here="$here/" -v images="$images/" 'index($2, here) == 1 || index($2, images) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount --lazy 2>/dev/null || true
  rm -rf --one-file-system "$here"
  if [ "$status" = 0 ]; then printf '\nPASS\n'; else printf '\nFAIL\n' >&2; fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mkdir "$here/tmp"

# What this machine's pip and uv are told about indexes, as a secret of the build: variables in a file, and the folders
# that they name mounted at the same place. None of it is part of an image.
index=$here/index.env
mounts=()
collect_index() {
  local name value path
  {
    "$PYTHON" -m pip config list | sed -n "s/^\(global\|install\|:env:\)\.\([a-z-]*\)='\(.*\)'$/\2 \3/p" |
      while read -r name value; do printf 'PIP_%s=%q\n' "$(tr a-z- A-Z_ <<<"$name")" "$value"; done
    for name in $(compgen -e | grep -E '^(PIP|UV)_|_PROXY$|_proxy$' | grep -vE '^UV_(PYTHON|TARGET|PREFIX|SYSTEM_PYTHON|CACHE_DIR)'); do
      printf '%s=%q\n' "$name" "${!name}"
    done
    local certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    if [ -f "$certificates" ]; then
      cp "$certificates" "$here/certificates.pem"
      for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do printf '%s=/run/certificates.pem\n' "$name"; done
    fi
    printf 'UV_CACHE_DIR=/run/uv-cache\n'
  } >"$index"
  mkdir -p "$here/uv-cache"
  mounts=(--volume "$("$(dirname "$PYTHON")/uv" cache dir 2>/dev/null || echo "$here/uv-cache"):/run/uv-cache")
  [ ! -f "$here/certificates.pem" ] || mounts+=(--volume "$here/certificates.pem:/run/certificates.pem:ro")
  while read -r path; do
    [ ! -d "$path" ] || mounts+=(--volume "$path:$path:ro")
  done < <(
    grep -E '^(PIP|UV)_.*(INDEX|FIND_LINKS)' "$index" | sed 's/^[^=]*=//; s/\\ / /g' | tr ' ' '\n' |
      sed -n 's#^file://\(/.*\)/[^/]*/*$#\1#p; s#^\(/.*\)$#\1#p' | sort -u
  )
}

exists() { in_podman image exists "localhost/$1"; }
build() {
  local tag=$1 file=$2 base=${3:-stand-in}
  say "building $tag"
  in_buildah bud --isolation chroot --format docker --network host --build-arg "BASE_IMAGE=localhost/$base" \
    --secret "id=index,src=$index" "${mounts[@]}" --file "$file" --tag "localhost/$tag" .
}

# What this machine lets containers do: some have no cgroups to give away, some may not raise limits.
find_flags() {
  local files
  files=$(ulimit -Hn)
  for flags in "--cgroups=disabled --ulimit host" "--cgroups=enabled --ulimit host" \
    "--cgroups=enabled --ulimit nofile=$files:$files --ulimit nproc=4096:4096"; do
    read -ra as_container <<<"--network host --pull never $flags"
    if in_podman run --rm "${as_container[@]}" localhost/stand-in true 2>"$here/flags.log"; then return; fi
  done
  cat "$here/flags.log" >&2
  die "podman cannot start a container on this machine"
}

free_port() { "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
start() {
  local name=$1
  shift
  containers+=("$name")
  in_podman run --detach --name "$name" "${as_container[@]}" "$@" >/dev/null
}
# Repeat a command until it succeeds or so many seconds have passed.
await() {
  local seconds=$1 deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || die "waited $seconds s for: $*"
    sleep 0.5
  done
}
check() {
  local what=$1
  shift
  "$@" || die "$what: no"
  printf 'ok  %s\n' "$what"
}
refused() { ! "$@" >/dev/null 2>&1; }
field() { "$PYTHON" -c 'import json, sys; value = json.load(sys.stdin)
for part in sys.argv[1].split("."): value = value[int(part) if part.isdigit() else part]
print(value)' "$1"; }

if ! exists stand-in; then
  say "a stand-in for the base images: Debian $SUITE with Python"
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv "$SUITE" "$here/rootfs" >"$here/debootstrap.log" ||
    { tail -20 "$here/debootstrap.log" >&2; die "debootstrap failed"; }
  tar -C "$here/rootfs" --one-file-system -c . | in_podman import --quiet - localhost/stand-in >/dev/null
  rm -rf --one-file-system "$here/rootfs"
fi
find_flags
collect_index
once() { in_podman run --rm "${as_container[@]}" "$@"; }
lacks='import importlib.util, sys; assert not [name for name in sys.argv[1:] if importlib.util.find_spec(name)]'
headers='import os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")'

# What every image of ours keeps to.
check_image() {
  local image=$1
  check "$image runs as a user without rights" test "$(once "localhost/$image" id -u)" = 10001
  in_podman inspect "localhost/$image" >"$here/$image.json"
  check "$image says what it is" grep -q RETORT_HOME "$here/$image.json"
  check "$image keeps nothing of the package index" refused grep -qE 'PIP_[A-Z_]+=|UV_[A-Z_]*INDEX[A-Z_]*=' "$here/$image.json"
  check "$image keeps no secret" once "localhost/$image" bash -c \
    '! find /run /etc/pip.conf -type f -size +0 ! -name ".containerenv" 2>/dev/null | grep -v "^/run/\(lock\|systemd\)" | grep .'
}

try_service() {
  if ! exists servers; then
    say "building stand-ins for PostgreSQL and Redis"
    in_buildah bud --isolation chroot --format docker --network host --tag localhost/servers --file - . <<'DOCKERFILE'
FROM localhost/stand-in
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q --yes --no-install-recommends postgresql redis-server
DOCKERFILE
  fi
  check_image retort-api
  check_image retort-worker
  check "the API's image has neither torch nor Ultralytics" once localhost/retort-api python -c "$lacks" torch ultralytics cv2
  check "the worker's image has both" once localhost/retort-worker python -c "import torch, ultralytics, cv2"
  check "the worker's image can compile" once localhost/retort-worker sh -c "c++ --version && python -c '$headers'"

  say "starting PostgreSQL, Redis, the migration, the API and the worker"
  postgres_port=$(free_port) redis_port=$(free_port) api_port=$(free_port)
  password=$("$PYTHON" -c 'import secrets; print(secrets.token_hex(16))')
  start db --user postgres --env "PASSWORD=$password" --env "PORT=$postgres_port" --entrypoint bash localhost/servers -c '
    set -e; bin=$(dirname /usr/lib/postgresql/*/bin/initdb)
    $bin/initdb -D /tmp/data -U retort --encoding=UTF8 --locale=C.UTF-8 --auth=scram-sha-256 --pwfile=<(echo "$PASSWORD") >/dev/null
    exec $bin/postgres -D /tmp/data -p "$PORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp'
  start redis --user redis --env "PASSWORD=$password" --env "PORT=$redis_port" --entrypoint bash localhost/servers -c '
    exec redis-server --bind 127.0.0.1 --port "$PORT" --dir /tmp --appendonly yes --maxmemory-policy noeviction --requirepass "$PASSWORD"'
  await 60 in_podman exec db bash -c 'PGPASSWORD=$PASSWORD psql -h 127.0.0.1 -p "$PORT" -U retort -d postgres -c "select 1"'
  await 60 in_podman exec redis bash -c 'REDISCLI_AUTH=$PASSWORD redis-cli -p "$PORT" ping | grep -q PONG'

  "$RETORT" data demo "$here/data/digits" --train 32 --val 8 --imgsz 96 >/dev/null
  chmod -R a+rX "$here/data"
  install -d -o 10001 -g 10001 "$here/artifacts" "$here/models" "$here/work"
  variables=(
    --env "RETORT_DATABASE_URL=postgresql+psycopg://retort:$password@127.0.0.1:$postgres_port/postgres"
    --env "RETORT_BROKER_URL=redis://:$password@127.0.0.1:$redis_port/0"
    --env RETORT_STORE_URL=file:///var/lib/retort/artifacts --env 'RETORT_DATA_DIRS=["/data"]'
    --env RETORT_HOST=127.0.0.1 --env "RETORT_PORT=$api_port" --env RETORT_FETCH_WEIGHTS=false
    --volume "$here/artifacts:/var/lib/retort/artifacts" --volume "$here/data:/data:ro"
  )
  check "the migration brings the tables to the head" grep -q head \
    <(once "${variables[@]}" localhost/retort-api python -m retort.db upgrade)
  key=$(once "${variables[@]}" localhost/retort-api retort keys create first --local --role operator)
  ask() { curl -fsS --header "Authorization: Bearer $key" "$@"; }
  check "the first key comes from a command" test "${key:0:4}" = rtt_
  start api "${variables[@]}" localhost/retort-api
  start worker "${variables[@]}" --shm-size 1g --volume "$here/models:/var/lib/retort/models" \
    --volume "$here/work:/var/lib/retort/work" localhost/retort-worker
  url=http://127.0.0.1:$api_port
  await 60 curl -fsS "$url/readyz"
  check "the API is alive by its image's own health check" in_podman healthcheck run api

  say "one job"
  job=$(ask "$url/v1/jobs" --json @- <<'SPEC' | field id
{
  "name": "containers",
  "data": {"path": "/data/digits"},
  "teacher": {"train": {"model": "yolo11n", "weights": null, "epochs": 1}},
  "student": {"model": "yolov8n", "weights": null},
  "training": {"epochs": 1, "imgsz": 64, "batch": 8}
}
SPEC
  )
  stage=""
  deadline=$((SECONDS + 900))
  while :; do
    state=$(ask "$url/v1/jobs/$job")
    now=$(field state <<<"$state") at=$(field stage <<<"$state")
    [ "$at" = "$stage" ] || printf '%s %s\n' "$now" "$at"
    stage=$at
    case $now in succeeded | failed | cancelled) break ;; esac
    [ "$SECONDS" -lt "$deadline" ] || die "the job is still $now after 900 s"
    sleep 1
  done
  [ "$now" = succeeded ] || { printf '%s\n' "$state" >&2; die "the job ended $now"; }
  check "the job succeeded" true
  ask "$url/v1/jobs/$job/artifacts/student.pt" -o "$here/student.pt"
  wanted=$(ask "$url/v1/jobs/$job/artifacts" |
    "$PYTHON" -c 'import json, sys; print(*[a["sha256"] for a in json.load(sys.stdin)["data"] if a["name"] == "student.pt"])')
  check "the student comes back as it was published" test "$(sha256sum <"$here/student.pt" | cut -d' ' -f1)" = "$wanted"
  check "both run as a user without rights" test "$(in_podman exec api id -u) $(in_podman exec worker id -u)" = "10001 10001"

  say "stopping"
  in_podman stop --time 60 worker api >/dev/null
  check "the worker drained" test "$(in_podman inspect --format '{{.State.ExitCode}}' worker)" = 0
  check "the API drained" test "$(in_podman inspect --format '{{.State.ExitCode}}' api)" = 0
}

# The lab stands as compose starts it: no capabilities, no new rights, a volume for what changes.
try_lab() {
  exists retort-lab || build retort-lab deploy/lab/Dockerfile retort-worker
  check_image retort-lab
  check "the lab's image has neither a host's key nor a key of somebody" once localhost/retort-lab bash -c \
    '! ls /etc/ssh/ssh_host_* "$HOME/.ssh" 2>/dev/null | grep .'
  check "the lab's users have no password" once --user root localhost/retort-lab bash -c \
    '! cut -d: -f2 /etc/shadow | grep -v "^[!*]"'

  say "starting the lab"
  local jupyter_port ssh_port keys=$here/keys token lab
  jupyter_port=$(free_port) ssh_port=$(free_port)
  mkdir "$keys"
  ssh-keygen -q -t ed25519 -N '' -f "$keys/own"
  ssh-keygen -q -t ed25519 -N '' -f "$keys/foreign"
  install -d -o 10001 -g 10001 "$here/lab"
  start lab --cap-drop ALL --security-opt no-new-privileges --shm-size 1g --volume "$here/lab:/var/lib/retort/lab" \
    --env LAB_IP=127.0.0.1 --env "LAB_PORT=$jupyter_port" --env "LAB_SSH_PORT=$ssh_port" \
    --env "LAB_SSH_KEYS=$(cat "$keys/own.pub")" --env RETORT_URL=http://127.0.0.1:9 --env LAB_EPOCHS=1 localhost/retort-lab
  lab=http://127.0.0.1:$jupyter_port
  lab_token() { in_podman logs lab 2>&1 | grep -oE 'token=[0-9a-f]+' | head -1 | cut -d= -f2 | grep .; }
  await 120 lab_token
  token=$(lab_token)
  await 60 curl -fsS "$lab/api?token=$token"
  check "nothing is shown without the token" refused curl -fsS "$lab/api/contents"
  curl -fsS "$lab/api/contents?token=$token" >"$here/contents.json"
  check "JupyterLab shows the notebooks" grep -q own_data_own_loss.ipynb "$here/contents.json"
  check "JupyterLab serves its page" grep -qi jupyterlab <(curl -fsS "$lab/lab?token=$token")

  say "SSH"
  local options=(-F none -p "$ssh_port" -o UserKnownHostsFile="$keys/known" -o StrictHostKeyChecking=accept-new -o IdentitiesOnly=yes)
  enter() { ssh "${options[@]}" -o BatchMode=yes -i "$keys/own" retort@127.0.0.1 "$@"; }
  check "a key comes in, as the user without rights" test "$(enter id -u)" = 10001
  check "who comes in has Python with torch, and the service's address" \
    test "$(enter "python -c 'import os, retort, torch; print(os.environ[\"RETORT_URL\"])'")" = http://127.0.0.1:9
  printf '#!/bin/sh\necho asked >>%q\necho retort\n' "$keys/asked" >"$keys/askpass"
  chmod +x "$keys/askpass"
  try_password() {
    SSH_ASKPASS="$keys/askpass" SSH_ASKPASS_REQUIRE=force ssh "${options[@]}" -o PubkeyAuthentication=no \
      -o PreferredAuthentications=password,keyboard-interactive "$1@127.0.0.1" true 2>"$keys/refusal"
  }
  for user in retort root; do
    check "a password of $user is refused" refused try_password "$user"
    check "keys are all that $user is offered" grep -q 'Permission denied (publickey)' "$keys/refusal"
  done
  check "no password was asked for" test ! -e "$keys/asked"
  check "another key is refused" refused ssh "${options[@]}" -o BatchMode=yes -i "$keys/foreign" retort@127.0.0.1 true
  check "a key of the lab does not open root" refused ssh "${options[@]}" -o BatchMode=yes -i "$keys/own" root@127.0.0.1 true

  say "one notebook"
  check "a notebook runs to its end, from a terminal of SSH" enter \
    "cd notebooks && LAB_EPOCHS=1 jupyter execute --output=done.ipynb own_data_own_loss.ipynb"
  check "it has drawn what it draws" grep -q image/png "$here/lab/notebooks/done.ipynb"
  in_podman stop --time 60 lab >/dev/null
  check "the lab stops when told" test "$(in_podman inspect --format '{{.State.ExitCode}}' lab)" = 0
}

! wants service || exists retort-api || build retort-api api/Dockerfile
exists retort-worker || build retort-worker Dockerfile.gpu
! wants service || try_service
! wants lab || try_lab
in_podman images --format '{{.Repository}} {{.Size}}'
