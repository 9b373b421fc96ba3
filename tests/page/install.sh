#!/usr/bin/env bash
# What the tests of the page need: a Chromium (CHROMIUM, or the one on the path, or Debian's where apt is there), and axe-core.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/loadline/page

if ! command -v "${CHROMIUM:-chromium}" >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-noto-cjk >&2
  else
    echo "the tests of the page need a Chromium: install one (apt-get install chromium), or name it with CHROMIUM" >&2
    exit 1
  fi
fi

if ! cmp -s "$here/package-lock.json" "$cache/package-lock.json" || [ ! -f "$cache/node_modules/axe-core/axe.min.js" ]; then
  command -v npm >/dev/null || { echo "the tests of the page need npm, for axe-core" >&2; exit 1; }
  mkdir -p "$cache"
  cp "$here/package.json" "$here/package-lock.json" "$cache/"
  (cd "$cache" && npm ci --no-audit --no-fund --ignore-scripts >&2)
fi
