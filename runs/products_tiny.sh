#!/usr/bin/env bash
# The README's product numbers: from parquet files to a judged model in about 14 CPU-minutes.
#   runs/products_tiny.sh FOLDER_WITH_PARQUET [OUT]
# FOLDER holds train.parquet (14,000 products) and test.parquet (2,000): id, image, title, ...
set -euo pipefail
data=$1 out=${2:-out/products_tiny}
columns=image=image,caption=title,key=id
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

lift embed --data "table:path=$data/train.parquet,$columns" "table:path=$data/test.parquet,$columns" \
  --out "$out/captions"
lift train products_tiny --data "table:path=$data/train.parquet,$columns" \
  --validation "table:path=$data/test.parquet,$columns" --cache "$out/captions" --out "$out/run"
lift eval "$out/run" --cache "$out/captions" --on \
  "zeroshot:data=[table:path=$data/test.parquet,$columns],label=article_type"
lift report "$out/run"
