#!/usr/bin/env bash
# Trains the extractor and the Answer Agent on from what ships, by LoCoMo's train dialogue: what its annotators noted of each
# turn, and its questions. The result is CC BY-NC as LoCoMo is, and is not what ships. About 35 minutes on two cores.
#
#   scripts/train_locomo.sh locomo10.json OUT      # a point of a learning curve: QUESTIONS=38 SEED=1 before it
#   memory-r1 bench run memory-r1-turns --data locomo:locomo10.json --split validation --k 10 --out runs/tuned \
#     --adapter extract=OUT/extract.gguf --adapter answer=OUT/answer.gguf
set -euo pipefail
data=$1 out=$2
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$out"
r1() { python3 -m memory_r1 "$@"; }

# The annotators noted nothing of most turns: made-up talk, as much of it, keeps the extractor from noting something of each.
r1 train examples --data "locomo:$data" --step extract --out "$out/noted.jsonl"
r1 train examples --dialogues 10 --seed 11 --step extract --out "$out/made-up.jsonl"
for _ in 1 2 3; do cat "$out/noted.jsonl"; done > "$out/extract.jsonl"
shuf --random-source=<(yes) -n "$(wc -l < "$out/extract.jsonl")" "$out/made-up.jsonl" >> "$out/extract.jsonl"
# Read by what ships, which has not seen the dialogue: its memories are as good here as elsewhere.
r1 train examples --data "locomo:$data" --step answer --keep-turns --out "$out/answer.jsonl" \
  ${QUESTIONS:+--questions "$QUESTIONS"} --seed "${SEED:-0}"

tuned() { # AGENT STEP STEPS CONFIG
  OMP_WAIT_POLICY=PASSIVE r1 train "$1" --config "$here/configs/$4" --start shipped --set learning_rate=2e-4 --data "jsonl:$out/$2.jsonl" \
    --steps "$3" --out "$out/$1"
  r1 train export "$out/$1/adapter" --name "locomo-$2" --out "$out/$2.gguf"
}
tuned extractor extract 25 smollm2-extractor-sft.toml
tuned answer answer "${ANSWER_STEPS:-36}" smollm2-answer-turns-sft.toml
