#!/usr/bin/env bash
# Opens a stream, pushes the pictures of a folder into it, two for each second, and asks about them: with curl alone.
#
#     infinipot serve --model embedded &
#     python examples/serve/frames.py frames
#     examples/serve/ask.sh frames "How many shapes have appeared so far?"
#
# INFINIPOT_URL is where the server is, INFINIPOT_KEY a key of its file of keys, if it has one.
set -euo pipefail
folder=$1 question=$2
url=${INFINIPOT_URL:-http://127.0.0.1:8000}
fail=--fail-with-body # shows what the server says; curl before 7.76 has only --fail
command curl $fail --version > /dev/null 2>&1 || fail=--fail
curl() { command curl --silent --show-error $fail --header "Authorization: Bearer ${INFINIPOT_KEY:-none}" "$@"; }
json="Content-Type: application/json"

curl "$url/v1/streams" --header "$json" --data '{"id": "folder", "fps": 2}' > /dev/null
trap 'curl --request DELETE "$url/v1/streams/folder"' EXIT

number=0
for picture in "$folder"/*.jpg; do
  time=$(awk "BEGIN { print $number / 2 }")
  curl "$url/v1/streams/folder/frames?time=$time" --header "Content-Type: image/jpeg" --data-binary "@$picture" > /dev/null
  number=$((number + 1))
done

curl "$url/v1/streams/folder"
echo
curl --no-buffer "$url/v1/streams/folder/ask" --header "$json" --data "{\"question\": \"$question\", \"stream\": true}"
