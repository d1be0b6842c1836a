#!/bin/sh
# Installs this release beside those that are there, and makes it the one that runs from the next start on.
# These are the commands of docs/operations.md, "Install", in their order. Run as root, in the unpacked release.
set -eu
cd "$(dirname "$0")/.."

apt-get install --yes --no-install-recommends python3 python3-venv ca-certificates
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
python3 -m venv "/opt/signspool/$version"
"/opt/signspool/$version/bin/pip" install --quiet --require-hashes --requirement requirements.lock
"/opt/signspool/$version/bin/pip" install --quiet --no-deps --no-build-isolation .

install -D --mode=0644 --target-directory=/usr/local/lib/sysusers.d deploy/sysusers.d/signspool.conf
install -D --mode=0644 --target-directory=/usr/local/lib/tmpfiles.d deploy/tmpfiles.d/signspool.conf
systemd-sysusers signspool.conf
systemd-tmpfiles --create signspool.conf
test -e /etc/signspool/signspool.toml ||
    install --mode=0640 --group=signspool deploy/signspool.toml /etc/signspool/signspool.toml

install -D --mode=0644 --target-directory=/usr/local/lib/systemd/system deploy/systemd/*
install -D --mode=0755 --target-directory=/usr/local/sbin deploy/bin/signspool
install -D --mode=0755 --target-directory=/usr/local/lib/signspool deploy/bin/hand-over-credentials
ln --symbolic --force --no-dereference "$version" /opt/signspool/current
systemctl daemon-reload
