#!/bin/sh
# picture.sh PHX DIRECTORY: the pictures of the documentation are what phx sim draws. Run from the
# top of the tree; with --update as third argument it draws them anew.
set -u

phx=$1
directory=$2
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
failed=0
count=0

for picture in "$directory"/*.svg; do
    [ -e "$picture" ] || continue
    count=$((count + 1))
    name=$(basename "$picture" .svg)
    if ! "$phx" sim "scenarios/$name.yaml" --svg "$made/$name.svg" >"$made/out" 2>&1; then
        cat "$made/out" >&2
        failed=1
        continue
    fi
    if [ "${3:-}" = --update ]; then
        cp "$made/$name.svg" "$picture"
    elif ! cmp -s "$made/$name.svg" "$picture"; then
        echo "picture.sh: $picture is not what phx sim draws now; look at the difference, then:" >&2
        echo "    tests/picture.sh $phx $directory --update" >&2
        diff "$made/$name.svg" "$picture" | head -n 10 >&2
        failed=1
    fi
    [ "$(wc -c <"$picture")" -lt 400000 ] || { echo "$picture: above 400 KB" >&2; failed=1; }
done
[ $count -gt 0 ] || { echo "picture.sh: no picture in $directory" >&2; failed=1; }
exit $failed
