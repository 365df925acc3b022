#!/usr/bin/env bash
# Chromium and tmux, which the browser tests drive: installed from the system's packages where that may be done, else named.
set -euo pipefail
missing=()
command -v chromium chromium-browser google-chrome > /dev/null || missing+=(chromium)
command -v tmux > /dev/null || missing+=(tmux)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
  sudo -n true 2> /dev/null || as_root=(false)
fi
if ! command -v apt-get > /dev/null || [ "${as_root[0]:-}" = false ]; then
  echo "the browser tests need ${missing[*]}; install them with your system's package manager, then run this again" >&2
  exit 1
fi
echo "installing ${missing[*]} from the system's packages"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
