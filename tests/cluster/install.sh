#!/bin/sh
# PostgreSQL's server, and what makes network namespaces, for the tests of this folder; does nothing where they are there already.
set -eu
if ls /usr/lib/postgresql/*/bin/pg_ctl >/dev/null 2>&1 && command -v ip >/dev/null && command -v unshare >/dev/null; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing PostgreSQL and iproute2"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql iproute2 util-linux >/dev/null
else
    echo "PostgreSQL and iproute2 are needed, and root; what lacks them is skipped" >&2
fi
