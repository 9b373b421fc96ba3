#!/usr/bin/env bash
# Provides the control plane that the end-to-end tests and the demo run on, and prints on standard output the
# directory that holds it: etcd, kube-apiserver, kube-scheduler, kube-controller-manager, kubectl, kwok, helm and
# kwok's stages/. Progress goes to standard error.
#
# A tool set is taken from KUBEBUILDER_ASSETS or PATH where its version suits, else built once from the Go modules
# pinned in tools/ and cached outside the tree, by content of the pins.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${LOADLINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/loadline}/controlplane
kubernetes_version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$here/tools/kubernetes/go.mod")
kwok_version=$(awk '$1 == "sigs.k8s.io/kwok" { print $2; exit }' "$here/tools/kwok/go.mod")

say() { printf '%s\n' "control plane: $*" >&2; }

# The path of a tool that is already on this machine, or nothing.
present() {
  if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$1" ]; then
    echo "$KUBEBUILDER_ASSETS/$1"
  else
    command -v "$1" || true
  fi
}

# The first version number that a command prints, as MAJOR.MINOR.
minor_version() { "$@" 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1 | cut -d. -f1,2; }

# Does the machine's own copy of a tool suit? The API server, scheduler, controller manager and kubectl must be of the
# pinned minor version: they are tested together.
suits() {
  local path
  path=$(present "$1")
  [ -n "$path" ] || return 1
  case $1 in
  kube-*) [ "$(minor_version "$path" --version)" = "$(echo "${kubernetes_version#v}" | cut -d. -f1,2)" ] ;;
  kubectl) [ "$(minor_version "$path" version --client)" = "$(echo "${kubernetes_version#v}" | cut -d. -f1,2)" ] ;;
  etcd) case $(minor_version "$path" --version) in 3.5 | 3.6) true ;; *) false ;; esac ;;
  kwok) [ "$(minor_version "$path" --version)" = "$(echo "${kwok_version#v}" | cut -d. -f1,2)" ] ;;
  helm) case $(minor_version "$path" version --short) in 3.1[4-9] | 3.[2-9]*) true ;; *) false ;; esac ;;
  esac
}

# build SET TOOL...: builds every tool of a set, unless it is cached or the machine's own copies all suit.
build() {
  local set=$1 pins directory started flags="-s -w" tool
  shift
  pins=$(cat "$here/tools/$set/go.mod" "$here/tools/$set/go.sum" "$here/install.sh" | sha256sum | cut -c1-16)
  directory=$cache/$set-$pins
  if [ ! -e "$directory/complete" ]; then
    mkdir -p "$directory"
    local all_suit=true
    for tool in "$@"; do suits "$tool" || all_suit=false; done
    if $all_suit; then
      for tool in "$@"; do ln -sf "$(present "$tool")" "$directory/$tool"; done
      say "$set: using this machine's own $*"
    else
      say "$set: building $* from source (once; the result is kept in $directory)"
      [ "$set" = kubernetes ] && flags="$flags -X k8s.io/component-base/version.gitVersion=$kubernetes_version
        -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(echo "$kubernetes_version" | cut -d. -f2)"
      started=$SECONDS
      progress "$set" "$started" &
      local ticker=$!
      # GOFLAGS of the user stay; the module's own version rules, not a workspace around it.
      (cd "$here/tools/$set" && GOWORK=off GOBIN=$directory CGO_ENABLED=0 go install -trimpath -ldflags "$flags" tool) >&2 ||
        { kill "$ticker"; say "$set: the build failed"; return 1; }
      kill "$ticker"
      wait "$ticker" 2>/dev/null || true
      # The package of etcd's server is named "server".
      if [ "$set" = etcd ]; then mv "$directory/server" "$directory/etcd"; fi
      say "$set: built in $((SECONDS - started)) s"
    fi
    if [ "$set" = kwok ]; then stages "$directory"; fi
    touch "$directory/complete"
  fi
  for tool in "$@"; do ln -sf "$directory/$tool" "$assembled/$tool"; done
  if [ "$set" = kwok ]; then ln -sfn "$directory/stages" "$assembled/stages"; fi
}

# A line every half minute, so that a long build is not taken for a hang.
progress() {
  trap 'kill "${nap:-}" 2>/dev/null; exit 0' TERM
  while :; do
    sleep 30 & nap=$!
    wait "$nap"
    say "$1: still building, $((SECONDS - $2)) s so far"
  done
}

# kwok does nothing without stages; they are in its module, not in its binary.
stages() {
  local module
  module=$(cd "$here/tools/kwok" && GOWORK=off go mod download -json "sigs.k8s.io/kwok@$kwok_version" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
  mkdir -p "$1/stages"
  for stage in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease \
    pod/fast/pod-ready pod/fast/pod-complete pod/fast/pod-delete; do
    install -m 0644 "$module/kustomize/stage/$stage.yaml" "$1/stages/"
  done
}

mkdir -p "$cache"
# One build at a time: the tests, the demo and a second terminal share the cache.
exec 9>"$cache/lock"
flock 9

assembled=$cache/current-$(cat "$here"/tools/*/go.mod "$here"/tools/*/go.sum "$here/install.sh" | sha256sum | cut -c1-16)
mkdir -p "$assembled"
build etcd etcd
build helm helm
build kwok kwok
build kubernetes kube-apiserver kube-scheduler kube-controller-manager kubectl
echo "$assembled"
