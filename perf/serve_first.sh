#!/usr/bin/env bash
# How long a new user takes from `pip install` to the first streamed answer about a pushed frame, by docs/serving.md.
#
#     perf/serve_first.sh            in a new environment, which is deleted afterwards
#     perf/serve_first.sh .venv      in one that is there: without the installation
#
# Prints the seconds up to each step.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp --directory)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
begin=$(date +%s.%N)
step() { printf '%7.1f s  %s\n' "$(echo "$(date +%s.%N) - $begin" | bc)" "$1"; }

if [ $# -gt 0 ]; then
  bin=$1/bin
else
  python3 -m venv "$folder/venv"
  bin=$folder/venv/bin
  "$bin/pip" install --quiet '.[serve]'
  step "installed"
fi
"$bin/python" -m infinipot serve --model embedded --port 0 > "$folder/said" 2> "$folder/log" &
server=$!
until grep --quiet http "$folder/said"; do sleep 0.1; kill -0 "$server"; done
url=$(grep --only-matching 'http://.*' "$folder/said")
step "the server is there"
"$bin/python" examples/serve/frames.py "$folder/frames" --seconds 2 > /dev/null
curl --silent --fail "$url/v1/streams" --json '{"id": "door"}' > /dev/null
curl --silent --fail "$url/v1/streams/door/frames?time=0" --data-binary "@$folder/frames/000.jpg" --header 'Content-Type: image/jpeg' > /dev/null
step "a frame was pushed"
curl --silent --fail --no-buffer "$url/v1/streams/door/ask" --json '{"question": "How many shapes have appeared so far?", "stream": true}' |
  while read -r line; do
    [[ $line != "data: "* ]] || { step "the first piece of the answer: ${line#data: }"; break; }
  done
