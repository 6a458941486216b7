#!/bin/sh
# Makes the secrets of compose.yaml, once: what exists is kept. They lie in a folder that only its owner may
# enter; the files themselves are readable, since containers read them as users of their own.
set -eu
umask 022
folder=${1:-$(dirname "$0")/../.secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() {
  head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'
}

keep() { # NAME TEXT: written whole or not at all
  [ -e "$1" ] || { printf '%s' "$2" > "$1.new" && mv "$1.new" "$1"; }
}

keep lake_user persistor
for name in lake_password mongo_password grafana_password session_key; do
  keep "$name" "$(random)"
done
for name in operator_token prometheus_token; do
  keep "$name" "persistor_$(random)"
done
sha256() { # FILE: by the program that Linux has, or macOS
  { sha256sum < "$1" 2>/dev/null || shasum -a 256 < "$1"; } | cut -d ' ' -f 1
}
line() { # NAME ROLE FILE ALLOWED, as `persistor token` writes it
  printf -- '- {"name": "%s", "role": "%s", "sha256": "%s"%s}\n' "$1" "$2" "$(sha256 "$3")" "${4-}"
}
metrics_only=', "sources": [], "destinations": []'
keep api_tokens "$(line operator operator operator_token && line prometheus viewer prometheus_token "$metrics_only")"
for name in operator_token prometheus_token; do
  grep -q "$(sha256 "$name")" api_tokens || {
    echo "$folder/api_tokens does not list $name: add its line, or delete api_tokens to have it made anew." >&2
    exit 1
  }
done
