#!/usr/bin/env bash
# What `make bench` needs of apt: installed as root, where there is an apt. Anything that stays missing
# is said by the benchmark itself, which leaves out what it cannot run.
set -euo pipefail

[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
export DEBIAN_FRONTEND=noninteractive
packages=(
    golang-github-golang-jwt-jwt-dev golang-github-gomodule-redigo-dev golang-github-gorilla-websocket-dev golang-go
    nats-server redis-server
)
command -v node >/dev/null || packages+=(nodejs)
command -v npm >/dev/null || packages+=(npm)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
echo "installing ${missing[*]}"
# Servers are started by the benchmark, on ports of its own: none is to start by itself (101: not allowed).
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt=(apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -qq)
"${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
    echo "apt could not install them; the benchmark goes on without" >&2
