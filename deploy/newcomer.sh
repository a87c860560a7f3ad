#!/usr/bin/env bash
# Do what the README tells a newcomer: clone HEAD into an empty folder, and run its two commands with an empty home and
# an environment that knows nothing of this one. Keeps what pip and uv are told about indexes: a newcomer has a network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

here=$(mktemp -d "${TMPDIR:-/tmp}/retort-newcomer.XXXXXX")
trap 'rm -rf "$here"' EXIT
mkdir "$here/home"
git clone --quiet "file://$PWD" "$here/retort"

keep=()
while IFS= read -r name; do
  keep+=("$name=${!name}")
done < <(compgen -e | grep -E '^(PIP_(INDEX_URL|EXTRA_INDEX_URL|CERT|TRUSTED_HOST)|UV_(INDEX_URL|DEFAULT_INDEX)|SSL_CERT_FILE|(HTTPS?|NO)_PROXY|(https?|no)_proxy)$' || true)
for target in ${TARGETS:-demo test}; do
  printf '\n== make %s\n' "$target"
  began=$SECONDS
  (cd "$here/retort" && env -i PATH="$PATH" HOME="$here/home" LANG=C.UTF-8 "${keep[@]}" make --no-print-directory "$target")
  printf '== make %s took %d s\n' "$target" "$((SECONDS - began))"
done
[ -z "$(git -C "$here/retort" status --porcelain)" ] || { git -C "$here/retort" status --short >&2; exit 1; }
