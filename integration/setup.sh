#!/bin/sh
# Installs the programs that the tests run, from Debian's packages, where they
# are missing. As root or with sudo it does so itself; else it prints the one
# command that does, and fails.
set -eu

missing=""
need() { # need PROGRAM PACKAGE
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need gsasl gsasl
need openssl openssl
need telnet inetutils-telnet
need nc netcat-openbsd
need curl curl
need swaks swaks
need msmtp msmtp
need fetchmail fetchmail
need mutt mutt
need mbsync isync
need dig bind9-dnsutils
need strace strace
need Xvfb xvfb
need thunderbird thunderbird
need python3 python3
need git git
# The server itself is in /usr/sbin, which is not in everybody's path.
[ -x /usr/lib/dovecot/imap ] || missing="$missing dovecot-imapd"
# swaks speaks TLS with this module.
if command -v swaks >/dev/null 2>&1; then
	perl -MNet::SSLeay -e 1 2>/dev/null || missing="$missing libnet-ssleay-perl"
else
	missing="$missing libnet-ssleay-perl"
fi

[ -n "$missing" ] || exit 0

# No word splitting is wanted but here.
command="apt-get update && apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
	run() { "$@"; }
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
	run() { sudo "$@"; }
else
	echo "The tests run programs that this machine lacks. This installs them:" >&2
	echo "  sudo sh -c '$command'" >&2
	exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "The tests run programs that this machine lacks:$missing" >&2
	echo "They are names of Debian packages; install them by this system's own means." >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
run apt-get update -q
# shellcheck disable=SC2086
run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
# Debian starts a server that it installs. The tests start their own, and others
# may want the ports.
case "$missing" in
*dovecot*)
	if [ -d /run/systemd/system ]; then
		run systemctl disable --now dovecot.service dovecot.socket || true
	fi
	;;
esac
