#!/bin/sh
# Start JupyterLab, and SSH where LAB_SSH_KEYS has public keys. Needs no rights; everything that changes lies in HOME.
set -eu
umask 077
files=${LAB_FILES:-/opt/lab}

mkdir -p "$HOME/.ssh" "$HOME/.ssh-host" "$HOME/notebooks"
for notebook in "$files"/notebooks/*.ipynb; do # what people have changed stays as it is
  [ -e "$HOME/notebooks/$(basename "$notebook")" ] || cp "$notebook" "$HOME/notebooks/"
done

printf '%s\n' "${LAB_SSH_KEYS:-}" >"$HOME/.ssh/authorized_keys"
{ env | grep '^RETORT_' || true; } >"$HOME/.ssh/environment"
if [ -n "${LAB_SSH_KEYS:-}" ]; then
  [ -f "$HOME/.ssh-host/ed25519" ] || ssh-keygen -q -t ed25519 -N '' -f "$HOME/.ssh-host/ed25519"
  /usr/sbin/sshd -D -e -f "$files/sshd_config" -o "HostKey=$HOME/.ssh-host/ed25519" \
    -o "AuthorizedKeysFile=$HOME/.ssh/authorized_keys" ${LAB_SSH_PORT:+-p "$LAB_SSH_PORT"} &
fi
unset LAB_SSH_KEYS
exec jupyter-lab --config="$files/jupyter.json" --notebook-dir="$HOME/notebooks" --no-browser \
  --ip="${LAB_IP:-0.0.0.0}" --port="${LAB_PORT:-8888}"
