#!/usr/bin/env bash
# Trains the adapters that the package ships, and measures what reinforcement learning adds to a warm start: GRPO and PPO,
# both agents, three seeds. One GPU; about 20 processes side by side, which a small model needs to keep a large GPU busy.
# Training ends DEADLINE seconds after the beginning, with checkpoints; then all is graded.
#
#   scripts/train_adapters.sh DATA OUT                              SmolLM2-135M, what ships
#   MODEL=qwen2.5-coder-0.5b scripts/train_adapters.sh DATA OUT     any other model of the catalogue, or a GGUF file
#
# DATA holds what can be made on any CPU beforehand:
#   memory-r1 train examples --dialogues 350 --out DATA/short.jsonl
#   memory-r1 train examples --dialogues 110 --sessions 12 --retrieved 60 --seed 1 --step manage --step answer --out DATA/long.jsonl
#   if you like, for an Answer Agent that has seen kept turns (what ships has not):
#   memory-r1 train examples --keep-turns --dialogues 60 --seed 3 --step answer --out DATA/turns.jsonl
#   memory-r1 train examples --dialogues 20 --split test --out DATA/held-out.jsonl
#   rl-manager.jsonl, rl-answer.jsonl: samples.jsonl of a run of each agent with --data synthetic:60 --seed 7
set -uo pipefail
data=$1 out=$2 model=${MODEL:-smollm2}
steps=${SFT_STEPS:-700} deadline=${DEADLINE:-420} seeds=${SEEDS:-0 1 2} warm=${WARM_STEPS:-50}
more=(${RL_SETTINGS:-}) # such as --steps 1, to rehearse
here=$(cd "$(dirname "$0")/.." && pwd)
export OMP_NUM_THREADS=1 PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True TOKENIZERS_PARALLELISM=false
began=$SECONDS
mkdir -p "$out"
say() { echo "$((SECONDS - began)) s: $*"; }
r1() { # NAME ARGUMENTS: one command, its output kept, and said when it ends
  local name=$1; shift
  python3 -m memory_r1 "$@" > "$out/$name.log" 2>&1
  say "$name ended with $?: $(tr '\r' '\n' < "$out/$name.log" | tail -n 1 | cut -c 1-150)"
}
trained() { # NAME ARGUMENTS: a run that is stopped in good order at the deadline
  local name=$1; shift
  timeout --signal=INT --kill-after=120 $((deadline - SECONDS + began)) \
    python3 -m memory_r1 train "$@" --model "$model" --out "$out/$name" > "$out/$name.log" 2>&1
  say "$name ended with $?: $(tail -n 1 "$out/$name/metrics.jsonl" | cut -c 1-100)"
}
sft() { # NAME AGENT STEPS DATA [MORE]
  local name=$1 agent=$2 count=$3 from=$4; shift 4
  trained "$name" "$agent" --algo sft --config "$here/configs/smollm2-gpu-sft.toml" --steps "$count" \
    --data "jsonl:$from" "$@"
}
rl() { # NAME AGENT ALGO SEED START [MORE]
  local name=$1 agent=$2 algo=$3 seed=$4 start=$5; shift 5
  trained "$name" "$agent" --algo "$algo" --config "$here/configs/smollm2-gpu-rl.toml" --seed "$seed" \
    --data "jsonl:$data/rl-$agent.jsonl" --start "$out/$start/adapter" "$@" "${more[@]}"
}
grade() { # NAME STEP ADAPTER [MORE]
  local name=$1 step=$2 adapter=$3; shift 3
  r1 "grade-$name" train evaluate --model "$model" ${LIMIT:+--limit "$LIMIT"} --free --step "$step" --adapter "$step=$adapter" --examples "$data/held-out.jsonl" \
    --out "$out/held-out-$name.json" "$@"
}
last() { ls -d "$out/$1"/checkpoints/checkpoint-* 2> /dev/null | sort -V | tail -n 1; }

python3 -c "from memory_r1.train.base import trainable; from memory_r1.cli.options import model_file; import sys; print(trainable(model_file(sys.argv[1])))" "$model"
say "the base model is converted"
cat "$data/short.jsonl" "$data/long.jsonl" > "$out/both.jsonl"
cp "$out/both.jsonl" "$out/answering.jsonl"
if [ -f "$data/turns.jsonl" ]; then cat "$data/turns.jsonl" >> "$out/answering.jsonl"; fi

# The warm starts that reinforcement learning is measured from, short on purpose: their own room is what it can win.
sft warm-answer answer "$warm" "$data/short.jsonl" --set warmup=5 &
warm_answer=$!
sft warm-manager manager "$warm" "$data/short.jsonl" --set warmup=5 --set group_size=32 &
warm_manager=$!
# Those that ship.
sft extractor extractor "$steps" "$data/short.jsonl" --set group_size=32 &
sft manager manager "$steps" "$out/both.jsonl" --set group_size=32 --set balance=true &
manager=$!
sft answer answer "$steps" "$out/answering.jsonl" &
answer=$!
wait $warm_answer $warm_manager
for seed in $seeds; do
  for algo in grpo ppo; do
    rl "manager-$algo-$seed" manager $algo $seed warm-manager --answer-adapter "$out/warm-answer/adapter" &
    rl "answer-$algo-$seed" answer $algo $seed warm-answer &
  done
done
wait $manager $answer
rl "manager-best" manager grpo 0 manager --answer-adapter "$out/answer/adapter" --set learning_rate=1e-4 &
rl "answer-best" answer grpo 0 answer --set learning_rate=1e-4 &
wait
say "training is done"
for name in warm-manager manager; do grade $name manage "$out/$name/adapter" & done
for name in warm-answer answer; do grade $name answer "$out/$name/adapter" & done
grade extractor extract "$out/extractor/adapter" &
for folder in "$out"/manager-*/; do name=$(basename "$folder"); grade "$name" manage "$(last "$name")" & done
wait
for folder in "$out"/answer-*/; do name=$(basename "$folder"); grade "$name" answer "$(last "$name")" & done
wait
say "all is graded"
