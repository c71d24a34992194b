#!/bin/sh
# Install the Debian packages that the tests require: git, an SSH server, PostgreSQL, Alertmanager with amtool, Chromium with a font, cmark-gfm, zsh, fish; with the argument "node" those of tests/node, with "image" those of tests/image.
# Without root, print their names.
set -eu
missing=""
if [ "${1:-}" = node ]; then
  command -v node >/dev/null 2>&1 || missing="$missing nodejs"
  command -v npm >/dev/null 2>&1 || missing="$missing npm"
elif [ "${1:-}" = image ]; then
  for command in buildah mmdebstrap runc; do
    command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
  done
  command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
else
command -v git >/dev/null 2>&1 || missing="$missing git"
command -v ssh-keygen >/dev/null 2>&1 || missing="$missing openssh-client"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
[ -x /usr/sbin/sshd ] || missing="$missing openssh-server"
command -v prometheus-alertmanager >/dev/null 2>&1 || missing="$missing prometheus-alertmanager"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-liberation"
for command in cmark-gfm zsh fish; do
  command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done
command -v systemd-analyze >/dev/null 2>&1 || missing="$missing systemd"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing:$missing"
  # No package may start a server: the tests start their own on a free port.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "the tests need these Debian packages:$missing" >&2
  echo "install them: sudo apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
