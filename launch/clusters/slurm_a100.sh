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
# The same command continues a run that was stopped: five minutes before the time is up, Slurm's
# SIGTERM is answered with a checkpoint. What fits is said beforehand by
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

# One process a node drives its four GPUs, and its processors run that node's programs; srun does
# not take their number from sbatch by itself. JAX reads who the others are from Slurm's own
# variables (config.distributed.mode=auto).
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    .venv/bin/python launch/train.py \
    --config=configs/qwen2_5_coder_7b.py:dynamic_b4 --workdir="$workdir" \
    --config.distributed.mode=auto "$@"
