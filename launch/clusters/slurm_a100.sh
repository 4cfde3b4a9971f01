#!/bin/bash
# One run over Slurm nodes with four A100 each: the paper's machine, or several of them.
#
#     sbatch --nodes=2 launch/clusters/slurm_a100.sh runs/coder_7b
#
# Submit it from the repository, which all nodes must see, as they must the run directory, and whose
# environment has JAX's CUDA libraries:
#
#     make venv && .venv/bin/pip install --editable ".[cuda]"
#
# Left alone, it continues by itself: five minutes before the time is up, and on preemption, Slurm's
# SIGTERM is answered with a checkpoint, and the job is queued again, as it is after a lost host, a
# full disk or a crash. After a mistake (exit code 2) it is not: docs/operations.md has the codes.
# What fits is said beforehand by
#
#     python launch/plan.py --config=configs/qwen2_5_coder_7b.py --topology=a100-80:2x4
#
#SBATCH --job-name=zerocoder
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:a100:4
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -euo pipefail
workdir=${1:?usage: sbatch --nodes=N launch/clusters/slurm_a100.sh RUN [--config.FIELD=VALUE ...]}
shift

restarts=${SLURM_RESTART_COUNT:-0}
if ((restarts > 0)); then
    # A run is rolled back once, not each time that it is started again.
    for word; do shift; [[ $word == --step=* ]] || set -- "$@" "$word"; done
fi
# Preemption signals this shell too, which has to stay to read the exit code.
trap : TERM

# One process a node drives its four GPUs, and its processors run that node's programs; srun does
# not take their number from sbatch by itself. JAX reads who the others are from Slurm's own
# variables (config.distributed.mode=auto).
code=0
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    .venv/bin/python launch/train.py \
    --config=configs/qwen2_5_coder_7b.py:dynamic_b4 --workdir="$workdir" \
    --config.distributed.mode=auto "$@" || code=$?

# srun gives the largest code of all hosts; the ones that were stopped because another had made a
# mistake have larger ones, but that one has said so in the run directory.
if tail -qn 1 "$workdir"/events.jsonl "$workdir"/hosts/*/events.jsonl 2>/dev/null |
    grep -q '"exit_code": 2'; then
    code=2
fi
case $code in
    0) ;;
    2 | 129 | 130) echo "not queued again: exit code $code" ;;
    *) ((restarts >= 20)) || scontrol requeue "$SLURM_JOB_ID" ;;
esac
exit "$code"
