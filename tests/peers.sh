#!/bin/sh
# Finds the real programs that the tests talk to, or unpacks them from the distribution's own signed packages into
# .cache/debs. Works as any user; never installs, configures or starts anything. A program that stays missing is said
# here once; its tests then skip with the reason, or fail where GRANTD_REQUIRE names it.
set -eu

cd "$(dirname "$0")/.."
cache="$PWD/.cache/debs"
root="$cache/root"

# the same places, in the same order, as tests/peers.py
find_program() {
  for place in $(printf '%s' "$PATH" | tr ':' ' ') /usr/sbin /sbin /usr/local/sbin /usr/lib/postgresql/*/bin \
    /usr/lib/openssh "$root/usr/lib/chromium" "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib/openssh" \
    "$root"/usr/lib/postgresql/*/bin; do
    if [ -x "$place/$1" ] && [ ! -d "$place/$1" ]; then
      printf '%s\n' "$place/$1"
      return 0
    fi
  done
  return 1
}

package_of() {
  case $1 in
    sshd) echo openssh-server ;;
    ssh | ssh-keygen | ssh-agent | sftp | scp) echo openssh-client ;;
    sftp-server) echo openssh-sftp-server ;;
    postgres | initdb) echo postgresql ;;
    faketime) echo faketime ;;
    less) echo less ;;
    tmux) echo tmux ;;
    vim.basic) echo vim ;;
    rsync) echo rsync ;;
    git) echo git ;;
    chromium-headless-shell) echo chromium-headless-shell ;;
  esac
}

missing_programs() {
  for program in sshd ssh ssh-keygen ssh-agent sftp scp sftp-server postgres initdb faketime less tmux vim.basic git rsync chromium-headless-shell; do
    find_program "$program" >/dev/null || printf '%s ' "$program"
  done
}

packages_for() {
  for program in "$@"; do package_of "$program"; done | sort -u
}

# apt with a state of its own: the machine's lists, cache and locks are left alone.
private_apt() {
  apt-get -q -o Dir::State::lists="$cache/lists" -o Dir::Cache="$cache/archives" -o Debug::NoLocking=1 \
    -o APT::Sandbox::User=root "$@"
}

unpack() {
  mkdir -p "$cache/lists/partial" "$cache/archives/partial" "$cache/packages" "$root"
  private_apt update >"$cache/log" 2>&1 || return 1
  names=$(private_apt -s install --no-install-recommends "$@" 2>>"$cache/log" | awk '/^Inst /{print $2}')
  [ -n "$names" ] || return 1
  # shellcheck disable=SC2086 # one word a package
  (cd "$cache/packages" && private_apt download $names >>"$cache/log" 2>&1) || return 1
  for package in "$cache"/packages/*.deb; do dpkg -x "$package" "$root"; done
}

missing=$(missing_programs)
if [ -z "$missing" ]; then
  exit 0
fi
# shellcheck disable=SC2086 # one word a program
packages=$(packages_for $missing | tr '\n' ' ')
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "peers: not on this machine: $missing(Debian's packages: $packages). Tests that need them are skipped." >&2
  exit 0
fi
echo "peers: unpacking ${packages}into .cache/debs (nothing is installed or started)"
# shellcheck disable=SC2086 # one word a package
if ! unpack $packages; then
  echo "peers: apt could not fetch ${packages}(see .cache/debs/log). Tests that need them are skipped." >&2
  exit 0
fi
missing=$(missing_programs)
if [ -n "$missing" ]; then
  echo "peers: still missing: $missing" >&2
fi
