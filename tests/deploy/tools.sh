#!/bin/sh
# Says what the tests of the deployment lack here. In continuous integration it is taken from Debian's packages, where
# that can be done. What is missing afterwards is said by the tests that are skipped for it; nothing here fails.
needed=""
command -v systemd-nspawn >/dev/null || needed="$needed systemd-container"
command -v debootstrap >/dev/null || needed="$needed debootstrap"
command -v nginx >/dev/null || needed="$needed nginx-light"
command -v nsenter >/dev/null || needed="$needed util-linux"
command -v podman >/dev/null || needed="$needed podman"
command -v runc >/dev/null || command -v crun >/dev/null || needed="$needed runc"
command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || needed="$needed iptables"
[ -x /usr/lib/podman/netavark ] || command -v netavark >/dev/null || needed="$needed netavark"
[ -x /usr/lib/podman/aardvark-dns ] || needed="$needed aardvark-dns"
[ -n "$needed" ] || exit 0
if [ -z "${CI:-}" ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-deploy: not installed here, so that some tests are skipped:$needed"
    exit 0
fi
echo "test-deploy: installing$needed"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install --yes --no-install-recommends $needed; } >/dev/null 2>&1 ||
    echo "test-deploy: they could not be installed"
