#!/usr/bin/env bash
# A real S3 server on loopback for tests: Ceph with one monitor, one OSD that keeps objects in memory, and its S3 gateway.
#
#   ceph-rgw.sh start DIRECTORY [PORT [MONITOR_PORT]]   starts it in the background and prints its settings
#   ceph-rgw.sh stop  DIRECTORY                         stops what was started there and removes DIRECTORY
#   ceph-rgw.sh run   DIRECTORY [PORT [MONITOR_PORT]]   start; stop at the end of standard input, so that the server ends
#                                                       with whoever holds the other end of the pipe
#
# CEPH_DEVICE_BYTES is how much memory the objects may take, 4 GiB by default.
# PORT is 7480 by default, MONITOR_PORT the one after it. Installs the Debian packages if they are missing and it can.
# All files are in DIRECTORY, which must be new, empty, or left behind by an earlier run.
set -euo pipefail

usage() {
  sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
  exit 64
}

[ $# -ge 2 ] || usage
command=$1
directory=$(realpath -m "$2")
port=${3:-7480}
monitor_port=${4:-$((port + 1))}
configuration=$directory/ceph.conf
daemons='client.rgw osd.0 mon.a'

access_key=STOWAGETESTKEY
secret_key=STOWAGETESTSECRET

install_packages() {
  command -v radosgw ceph-mon ceph-osd ceph radosgw-admin >/dev/null && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo 'Ceph is not installed, and only root can install it (Debian: radosgw ceph-mon ceph-osd).' >&2
    exit 69
  fi
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends radosgw ceph-mon ceph-osd >&2
}

# The pid of a daemon of this directory, if it lives. A pid file may be old and its pid somebody else's by now.
pid_of() {
  local pid
  pid=$(cat "$directory/$1.pid" 2>/dev/null) || return 1
  # No `grep -q`: it would not read to the end, and the pipe would fail by that.
  { tr '\0' '\n' <"/proc/$pid/cmdline" | grep -xF -- "--conf=$configuration"; } >/dev/null 2>&1 || return 1
  echo "$pid"
}

signal_daemons() {
  local daemon pid
  for daemon in $daemons; do
    if pid=$(pid_of "$daemon"); then kill "-$1" "$pid" 2>/dev/null || true; fi
  done
}

any_alive() {
  local daemon
  for daemon in $daemons; do
    if pid_of "$daemon" >/dev/null; then return 0; fi
  done
  return 1
}

stop() {
  # Nothing here is worth an orderly end: it lives in memory and is about to be removed.
  signal_daemons KILL
  for _ in $(seq 100); do
    any_alive || break
    sleep 0.05
  done
  rm -rf "$directory"
}

configure() {
  mkdir -p "$directory"/{mon,osd,rgw}
  cat >"$configuration" <<CONFIGURATION
[global]
fsid = $1
mon host = [v1:127.0.0.1:$monitor_port]
ms bind msgr2 = false
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = $directory
admin socket = $directory/\$name.asok
pid file = $directory/\$name.pid
log file = $directory/\$name.log
keyring = $directory/keyring
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
[mon]
mon data = $directory/mon
mon initial members = a
mon data avail crit = 1
# The monitor gathers changes for a second before it agrees with itself; each new pool would wait for that.
paxos propose interval = 0.02
auth allow insecure global id reclaim = false
[osd]
osd data = $directory/osd
osd objectstore = memstore
memstore device bytes = ${CEPH_DEVICE_BYTES:-4294967296}
[client.rgw]
rgw data = $directory/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
rgw dynamic resharding = false
# Memory of deleted objects comes back within seconds instead of hours.
rgw gc obj min wait = 1
rgw gc processor period = 5
rgw gc processor max time = 60
CONFIGURATION
}

start_daemons() {
  local conf=--conf=$configuration fsid=$1 osd_id
  osd_id=$(cat /proc/sys/kernel/random/uuid)
  ceph-authtool --create-keyring "$directory/keyring" --gen-key -n mon. --cap mon 'allow *'
  ceph-authtool "$directory/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
  monmaptool --create --clobber --addv a "[v1:127.0.0.1:$monitor_port]" --fsid "$fsid" "$directory/monmap"
  ceph-mon "$conf" --mkfs -i a --monmap "$directory/monmap" --keyring "$directory/keyring"
  ceph-mon "$conf" -i a
  timeout 60 ceph "$conf" osd new "$osd_id" 0
  ceph-osd "$conf" -i 0 --mkfs --osd-uuid "$osd_id"
  timeout 60 ceph "$conf" osd crush add osd.0 1.0 root=default host=localhost
  ceph-osd "$conf" -i 0
  radosgw "$conf" -n client.rgw
  for _ in $(seq 600); do
    if (exec 4<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    any_alive
    sleep 0.1
  done
  timeout 60 radosgw-admin "$conf" user create --uid=stowage --display-name=Stowage \
    --access-key="$access_key" --secret-key="$secret_key"
}

start() {
  local fsid
  install_packages
  stop
  fsid=$(cat /proc/sys/kernel/random/uuid)
  configure "$fsid"
  # A subshell of its own: `set -e` does not count inside an `if` or beside `||`.
  set +e
  (set -e; start_daemons "$fsid") >"$directory/start.log" 2>&1 </dev/null 3>&-
  local status=$?
  set -e
  if [ "$status" != 0 ]; then
    tail -n 20 "$directory/start.log" >&2
    stop
    exit 70
  fi
  cat <<SETTINGS
S3_ENDPOINT=http://127.0.0.1:$port
S3_REGION=us-east-1
S3_ACCESS_KEY_ID=$access_key
S3_SECRET_ACCESS_KEY=$secret_key
S3_FORCE_PATH_STYLE=true
SETTINGS
}

case $command in
  start) start ;;
  stop) stop ;;
  run)
    trap stop EXIT
    # Ctrl+C reaches the whole group; whoever started this decides when to stop, by closing the pipe.
    trap '' HUP INT TERM
    start
    cat >/dev/null
    ;;
  *) usage ;;
esac
