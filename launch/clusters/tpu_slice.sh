#!/bin/bash
# One run over all hosts of a Cloud TPU slice; run it on your own computer.
#
#     launch/clusters/tpu_slice.sh SLICE_NAME ZONE /mnt/runs/coder_7b
#
# The run directory must be a folder that all hosts share (Filestore, or a bucket mounted with
# gcsfuse). The slice needs this repository and its environment on every host, once (where the
# image's own Python is older than 3.11, install a newer one and say `make venv PYTHON=python3.12`):
#
#     gcloud compute tpus tpu-vm ssh SLICE_NAME --zone=ZONE --worker=all --command='
#         git clone YOUR_FORK zerocoder_jax && cd zerocoder_jax && make venv &&
#         .venv/bin/pip install --editable ".[tpu]"'
#
# Every host starts its process again after a lost host, a full disk or a crash, and the run
# continues from its last checkpoint; not after a mistake (exit code 2) or Ctrl-C: docs/operations.md
# has the codes. After preemption of the slice, the same command continues the run. What fits is said
# beforehand by
#
#     python launch/plan.py --config=configs/qwen2_5_coder_7b.py --topology=v5p:2x2x1
#
set -euo pipefail
usage="usage: launch/clusters/tpu_slice.sh SLICE_NAME ZONE RUN [--config.FIELD=VALUE ...]"
slice=${1:?$usage} zone=${2:?$usage} workdir=${3:?$usage}
shift 3

# Each word is quoted for the shell over there; no words make none.
printf -v words ' %q' --workdir="$workdir" --config.distributed.mode=auto "$@"

# Every host runs the same command and finds the others through the slice's metadata. Isolating
# model-written programs needs user namespaces, which TPU hosts allow outside of containers.
exec gcloud compute tpus tpu-vm ssh "$slice" --zone="$zone" --worker=all --command="
    cd zerocoder_jax || exit
    set -- --config=configs/qwen2_5_coder_7b.py:dynamic_b4$words
    for restart in {0..20}; do
        code=0
        .venv/bin/python launch/train.py \"\$@\" || code=\$?
        case \$code in 0 | 2 | 129 | 130) break ;; esac
        # A run is rolled back once, not each time that it is started again.
        for word; do shift; [[ \$word == --step=* ]] || set -- \"\$@\" \"\$word\"; done
        sleep 10
    done
    exit \$code"
