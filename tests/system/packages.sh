#!/bin/sh
# What `make test-system` needs of the machine: programs, each with the Debian package that has it.
#
# A program that is there serves, wherever it came from. What is missing is installed by root where
# there is apt-get; anybody else is told the command, and the target fails: nothing is skipped.
set -eu

PROGRAMS='
nginx         nginx-light
caddy         caddy
chromium      chromium
chromedriver  chromium-driver
node          nodejs
npm           npm
faketime      faketime
'
PATH=$PATH:/usr/sbin:/sbin # where Debian puts nginx, and no user's PATH looks

missing() {
  echo "$PROGRAMS" | while read -r program package; do
    test -z "$program" || command -v "$program" >/dev/null || printf ' %s' "$package"
  done
}

packages=$(missing)
test -n "$packages" || exit 0
install="apt-get install -y --no-install-recommends$packages"

if ! command -v apt-get >/dev/null; then
  echo "make test-system needs what Debian calls$packages: install it with this system's own tools" >&2
  exit 1
fi
if test "$(id -u)" -ne 0; then
  echo "make test-system needs$packages: sudo $install" >&2
  exit 1
fi

echo "make test-system installs$packages"
# The servers are for tests, which start their own: none is to be started, nor asked about.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
# shellcheck disable=SC2086 # several packages, several words
$install >/dev/null || { apt-get update >/dev/null && $install >/dev/null; }

packages=$(missing)
test -z "$packages" || { echo "still missing after the installation:$packages" >&2; exit 1; }
