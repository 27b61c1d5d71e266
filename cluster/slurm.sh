#!/usr/bin/env bash
# A sweep on a Slurm job's nodes, each of them a node of one Ray cluster (README.md). From the repository's root:
#
#   sbatch --nodes=4 --gres=gpu:8 cluster/slurm.sh --sweep augmentation --scale paper
#
# When the job's time is nearly up, the sweep stops and the job goes back into the queue; whenever Slurm starts the job
# again, for that or for another reason, the sweep goes on where it was.
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
out=${DDL_RUNS:-$root/runs}/slurm-$SLURM_JOB_ID # on a file system that all nodes share
export PATH="$root/.venv/bin:$PATH"

# The first node is the head: there the sweep's driver runs, and this script. The port is the job's own.
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$first:$((20000 + SLURM_JOB_ID % 10000))

# Every node reads the token from a file that only its owner can read; it is in no argument list and no job record.
mkdir -p "$out"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$out/token
if [[ ! -s $RAY_AUTH_TOKEN_PATH ]]; then
    (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
fi
export RAY_USAGE_STATS_ENABLED=0 RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300

# Slurm ends a job with SIGTERM to all its processes at once. Ray's must outlive the driver's orderly stop, so they get the
# signal blocked, as Python can and a shell cannot; the driver unblocks it for itself.
shield='import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}); os.execvp(sys.argv[1], sys.argv[1:])'
# shellcheck disable=SC2016 # expanded on each node; only a head may be told about the dashboard
node='head=(); [[ $SLURM_NODEID == 0 ]] && head=(--include-dashboard=false)
exec python -c "$1" ray symmetric-run --address "$2" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus="$SLURM_CPUS_ON_NODE" "${head[@]}" -- "${@:3}"'
# shellcheck disable=SC2016 # expanded on the head
driver='echo $$ >"$0" && exec "$@"'

rm -f "$out/driver.pid"
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --cpu-bind=none \
    bash -c "$node" node "$shield" "$address" \
    bash -c "$driver" "$out/driver.pid" python "$root/cluster/sweep.py" --out "$out" --address "$address" "$@" &
steps=$!

again=
# shellcheck disable=SC2329 # the trap calls it
stop() { # the driver, which ends the others; or what is still on its way to start it
    again=yes
    kill -TERM "$(cat "$out/driver.pid" 2>/dev/null || echo "$steps")" 2>/dev/null || true
}
trap stop USR1
trap : TERM # Slurm sends it to the driver too
while kill -0 "$steps" 2>/dev/null; do
    wait "$steps" || true # a signal ends the waiting, not what is waited for
done
wait "$steps" && code=0 || code=$?

if [[ -n $again && ($code == 130 || ! -e $out/driver.pid) ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
