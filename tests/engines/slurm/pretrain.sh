#!/usr/bin/env bash
# Pre-training with two processes on a Slurm cluster, which this script starts on this machine and stops again. A job that loses a process
# must fail at once and resume when it is resubmitted; a job that gets a signal must save, requeue itself and resume. Both must end with
# the model of an uninterrupted job. Needs root and the Debian packages slurm-wlm, munge and openmpi-bin, so it is not part of `make test`:
#     make all mpi && sudo tests/engines/slurm/pretrain.sh
set -euo pipefail

root=$(realpath "$(dirname "$0")/../../..")
export PATH=$root/target/mpi:$root/target/release:$PATH
# shellcheck source-path=SCRIPTDIR source=cluster.sh
source "$root/tests/engines/slurm/cluster.sh"

# Enough for about 15 seconds.
epochs=60
training=(--input "$directory/corpus" --n-layers 1 --embedding-dim 16 --n-heads 2 --ffn-dim 16 --epochs "$epochs" --batch-size 8 --save-every 2
	--threads 1 --device cpu --validation-fraction 0.1 --dropout 0)

# Submits a job that trains or resumes the model of this name.
submit() {
	job=$(sbatch --parsable --job-name="$1" --output="$directory/$1.%j.log" "$directory/job.sh" "$directory/$1")
	log=$directory/$1.$job.log
}

# A field of the job, as Slurm reports it.
field() {
	scontrol show job "$job" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

is() {
	[ "$(field "$1")" = "$2" ]
}

over() {
	case $(field JobState) in
	COMPLETED | FAILED | CANCELLED | TIMEOUT | NODE_FAIL | OUT_OF_MEMORY) ;;
	*) return 1 ;;
	esac
}

# SECONDS STATE: waits for the end of the job.
ends_as() {
	await "$1" "job $job is over" over
	is JobState "$2" || fail "job $job ended as $(field JobState) and not $2; see $log"
}

# The processes write at the same time, so their lines may be mixed.
logged() {
	grep -q -e "$1" "$log"
}

# EPOCHS: waits until the job has trained for them.
trained() {
	await 120 "job $job has trained for $1 epochs" logged "epoch $1 of $epochs:"
	is JobState RUNNING || fail "job $job is $(field JobState) and not training any more; more epochs may help"
}

# The process id of a rank.
rank() {
	scontrol listpids "$job.0" | awk -v rank="$1" '$5 == rank { print $1 }'
}

# Slurm delays a requeued job by two minutes; starts it as soon as its first run is cleaned up.
start_again() {
	await 30 "job $job is pending" is JobState PENDING
	await 60 "the first run of job $job is cleaned up" nothing_left
	scontrol update job="$job" StartTime=now
}

nothing_left() {
	! compgen -G "$directory/spool/pmix.*" && idle
}

# A resumed run must not start from the first epoch, and must give the model of the uninterrupted run.
same_model() {
	local name=$1 begun file
	begun=$(cat "$directory/$name".*.log | grep -o "epoch 1 of $epochs:" | wc -l)
	((begun <= 2)) || fail "$name started from the first epoch; see $log"
	for file in model.safetensors last.safetensors; do
		cmp "$directory/uninterrupted/$file" "$directory/$name/$file" || fail "different $file in $directory/$name"
	done
}

passed() {
	echo "passed after $SECONDS s: $*"
}

trap stop EXIT
[ -x "$root/target/mpi/scgpt-pretrain" ] || fail "there is no target/mpi/scgpt-pretrain: run \`make mpi\`"
start_slurm
scgpt-tokenize --quiet --input "$root/tools/test-data/cells.h5ad" --output "$directory/corpus"
cat >"$directory/job.sh" <<-END
	#!/bin/bash
	#SBATCH --ntasks=2 --requeue --open-mode=append
	srun --mpi=pmix -n2 --kill-on-bad-exit=1 scgpt-pretrain ${training[*]} --output "\$1" --resume
	code=\$?
	echo "srun ended with \$code"
	[ \$code != 75 ] || scontrol requeue "\$SLURM_JOB_ID"
	exit \$code
END

submit uninterrupted
begin=$SECONDS
ends_as 180 COMPLETED
logged 'distributed training with 2 processes' || fail "the job did not run two processes; see $log"
passed "an uninterrupted job, in $((SECONDS - begin)) s"

for lost in 1 0; do
	submit killed
	trained $((epochs / 2 - lost * epochs / 4))
	begin=$SECONDS
	kill -KILL "$(rank $lost)"
	ends_as 60 FAILED
	first=$(grep -m 1 'srun: error:' "$log" || true)
	[[ $first = *"task $lost: Killed" ]] || fail "the first error is not of the killed process but \"$first\"; see $log"
	echo "passed after $SECONDS s: a job whose process $lost is killed fails within $((SECONDS - begin)) s:"
	grep 'srun: ' "$log"
done
submit killed
ends_as 180 COMPLETED
same_model killed
passed "resubmitted, it resumes and gives the same model"

submit signaled
trained $((epochs / 3))
begin=$SECONDS
scancel --signal=TERM "$job"
await 60 "job $job saved and requeued itself" is Restarts 1
logged 'srun ended with 75' || fail "a job that got SIGTERM did not end with 75; see $log"
passed "a job that gets SIGTERM saves, ends with 75 and requeues itself, in $((SECONDS - begin)) s"
start_again
ends_as 180 COMPLETED
same_model signaled
passed "it resumes and gives the same model"

log=$directory/apart.log code=0
timeout 60 srun -n2 scgpt-pretrain "${training[@]}" --output "$directory/apart" >"$log" 2>&1 || code=$?
[ $code = 65 ] || fail "processes that cannot connect ended with $code; see $log"
logged 'srun --mpi=pmix' || fail "processes that cannot connect do not report it; see $log"
[ "$(compgen -G "$directory/apart*")" = "$log" ] || fail "processes that cannot connect left files; see $directory"
passed "processes that cannot connect are rejected:"
cat "$log"
