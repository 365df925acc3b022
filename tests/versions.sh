#!/usr/bin/env bash
# Runs the unit tests on each Python named, if this machine has it, in an environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
# uv looks for Pythons on PATH, where pyenv puts only those that are switched on.
for folder in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin; do PATH+=":$folder"; done
uv() { .venv/bin/uv "$@"; }
report=() code=0
for version in "$@"; do
	venv=.venv-$version
	if .venv/bin/python -c "import sys; sys.exit('$version' != '%d.%d' % sys.version_info[:2])"; then
		venv=.venv # has this version already
	elif ! python=$(uv python find --no-python-downloads "$version" 2>/dev/null); then
		report+=("$version: not found on PATH or among pyenv's, NOT tested") && continue
	elif ! [ "$venv/.ready" -nt requirements.lock ]; then
		echo "Python $version: installing into $venv (some minutes)"
		uv venv --quiet --clear --python "$python" "$venv"
		uv pip sync --quiet --python "$venv/bin/python" --require-hashes requirements.lock
		touch "$venv/.ready"
	fi
	if "$venv/bin/python" -m pytest tests/unit --numprocesses auto --maxprocesses 4; then
		report+=("$version: passed")
	else
		report+=("$version: FAILED") code=1
	fi
done
printf 'Python %s\n' "${report[@]}"
exit $code
