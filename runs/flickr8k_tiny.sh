#!/usr/bin/env bash
# The README's Flickr8k number: from shards to a judged model in about 16 CPU-minutes.
#   runs/flickr8k_tiny.sh FOLDER_WITH_SHARDS [OUT]
# FOLDER holds train-*.tar (2,600 photos) and val-0000.tar (400), five captions a photo.
set -euo pipefail
data=$1 out=${2:-out/flickr8k_tiny}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

lift embed --data "$data/train-*.tar" "$data/val-0000.tar" --out "$out/captions"
lift train flickr8k_tiny --data "$data/train-*.tar" --validation "$data/val-0000.tar" \
  --cache "$out/captions" --out "$out/run"
lift report "$out/run"
