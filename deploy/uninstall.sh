#!/bin/sh
# Removes the services and the program. Settings, secrets and the spool stay, unless --purge is given.
# These are the commands of docs/operations.md, "Remove", in their order. Run as root.
set -eu

systemctl disable --now signspool-api.socket signspool-api.service signspool-processor.service
systemctl disable --now signspool-check.timer signspool-api-metrics.socket
rm --recursive --force /usr/local/lib/systemd/system/signspool-*
rm --force /usr/local/sbin/signspool /usr/local/sbin/signspool-alarm
rm --force /usr/local/lib/sysusers.d/signspool.conf /usr/local/lib/tmpfiles.d/signspool.conf
systemctl daemon-reload
rm --recursive --force /opt/signspool /usr/local/lib/signspool
if [ "${1:-}" = --purge ]; then
    rm --recursive --force /etc/signspool /var/lib/signspool
    userdel signspool
fi
