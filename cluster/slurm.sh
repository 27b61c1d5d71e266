#!/usr/bin/env bash
# Runs a sweep on the nodes of a Slurm job, as one Ray cluster (README.md). From the repository's root:
#
#   sbatch --nodes=4 --gres=gpu:8 cluster/slurm.sh --sweep augmentation --scale paper
#
# Shortly before the job's time limit the sweep stops and the job is requeued. Whenever Slurm starts the job again, for that or
# another reason, the sweep resumes.
#
#SBATCH --job-name=ddl
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=ddl-%j.log
set -euo pipefail

root=${DDL_ROOT:-$SLURM_SUBMIT_DIR}
out=${DDL_RUNS:-$root/runs}/slurm-$SLURM_JOB_ID # must be on a file system that all nodes share
export PATH="$root/.venv/bin:$PATH"

# The first node is the head: it runs the sweep's driver and this script. The port is derived from the job's id.
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$first:$((20000 + SLURM_JOB_ID % 10000))

# Every node reads the token from a file that only the owner can read, so that it is in no argument list and no job record.
mkdir -p "$out"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$out/token
if [[ ! -s $RAY_AUTH_TOKEN_PATH ]]; then
    (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
fi
export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# To end a job, Slurm sends SIGTERM to all its processes at once. Ray's processes must survive until the driver has stopped the
# sweep, so SIGTERM is blocked for them (Python can do that, a shell cannot); the driver unblocks it for itself.
block_sigterm='import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.execvp(sys.argv[1], sys.argv[1:])'
# shellcheck disable=SC2016 # expanded on each node; ray start accepts the dashboard option only on the head
node='head=(); [[ $SLURM_NODEID == 0 ]] && head=(--include-dashboard=false)
exec python -c "$1" ray symmetric-run --address "$2" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus="$SLURM_CPUS_ON_NODE" "${head[@]}" -- "${@:3}"'
# shellcheck disable=SC2016 # expanded on the head
driver='echo $$ >"$0" && exec "$@"'

rm -f "$out/driver.pid"
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --cpu-bind=none \
    bash -c "$node" node "$block_sigterm" "$address" \
    bash -c "$driver" "$out/driver.pid" python "$root/cluster/sweep.py" --out "$out" --address "$address" "$@" &
steps=$!

requeue=
# shellcheck disable=SC2329 # the trap calls it
stop() { # stop the driver, which ends the other processes, or the steps that have not started it yet
    requeue=yes
    kill -TERM "$(cat "$out/driver.pid" 2>/dev/null || echo "$steps")" 2>/dev/null || true
}
trap stop USR1
trap : TERM # Slurm sends SIGTERM to the driver too
while kill -0 "$steps" 2>/dev/null; do
    wait "$steps" || true # a signal interrupts the wait, not the steps
done
wait "$steps" && code=0 || code=$?

if [[ -n $requeue && ($code == 130 || ! -e $out/driver.pid) ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
