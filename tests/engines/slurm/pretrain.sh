#!/usr/bin/env bash
# Pre-training by two processes through a real Slurm, which this script starts on this machine alone, in a folder of its own, and stops
# again: a job that loses a process must fail at once and go on when it is submitted again, one that is told to stop must save, queue
# itself again and go on, and either must end in the model of a job that nothing disturbed.
# It needs root and Debian's packages slurm-wlm, munge and openmpi-bin, so it is no part of `make test`:
#     make all mpi && sudo tests/engines/slurm/pretrain.sh
set -euo pipefail

root=$(realpath "$(dirname "$0")/../../..")
export PATH=$root/target/mpi:$root/target/release:$PATH
# shellcheck source-path=SCRIPTDIR source=cluster.sh
source "$root/tests/engines/slurm/cluster.sh"

# Enough for about 15 seconds.
epochs=60
training=(--input "$folder/corpus" --layers 1 --width 16 --heads 2 --hidden 16 --epochs "$epochs" --batch-size 8 --save-every 2
	--threads 1 --device cpu --validation-share 0.1 --dropout 0)

# Submits a job that trains a model of that name, or goes on with it.
submit() {
	job=$(sbatch --parsable --job-name="$1" --output="$folder/$1.%j.log" "$folder/job.sh" "$folder/$1")
	log=$folder/$1.$job.log
}

# Something the job is, in the words of Slurm.
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

# Waits so many seconds for the end of the job.
ends_as() {
	await "$1" "job $job is over" over
	is JobState "$2" || fail "job $job ended as $(field JobState) and not $2; see $log"
}

# The processes write at the same time: their lines may be mixed, but not their words.
says() {
	grep -q -e "$1" "$log"
}

# Waits until the job has trained for so many epochs.
trained() {
	await 120 "job $job has trained for $1 epochs" says "epoch $1 of $epochs:"
	is JobState RUNNING || fail "job $job is $(field JobState) and not training any more; more epochs may help"
}

# The process number of a rank.
rank() {
	scontrol listpids "$job.0" | awk -v rank="$1" '$5 == rank { print $1 }'
}

# Slurm lets a job wait for two minutes that was queued again, but need not, once nothing is left of its first run.
start_again() {
	await 30 "job $job waits again" is JobState PENDING
	await 60 "nothing is left of the first run of job $job" nothing_left
	scontrol update job="$job" StartTime=now
}

nothing_left() {
	! compgen -G "$folder/spool/pmix.*" && idle
}

# What was trained in pieces must not have begun again, and be as if it had not been disturbed.
same_model() {
	local name=$1 begun file
	begun=$(cat "$folder/$name".*.log | grep -o "epoch 1 of $epochs:" | wc -l)
	((begun <= 2)) || fail "$name began again; see $log"
	for file in model.safetensors last.safetensors; do
		cmp "$folder/undisturbed/$file" "$folder/$name/$file" || fail "another $file in $folder/$name"
	done
}

passed() {
	echo "passed after $SECONDS s: $*"
}

trap stop EXIT
[ -x "$root/target/mpi/scgpt-pretrain" ] || fail "there is no target/mpi/scgpt-pretrain: run \`make mpi\`"
start_slurm
scgpt-tokenize --quiet --input "$root/tools/test-data/cells.h5ad" --output "$folder/corpus"
cat >"$folder/job.sh" <<-END
	#!/bin/bash
	#SBATCH --ntasks=2 --requeue --open-mode=append
	srun --mpi=pmix -n2 --kill-on-bad-exit=1 scgpt-pretrain ${training[*]} --output "\$1" --resume
	code=\$?
	echo "srun ended with \$code"
	[ \$code != 75 ] || scontrol requeue "\$SLURM_JOB_ID"
	exit \$code
END

submit undisturbed
begin=$SECONDS
ends_as 180 COMPLETED
for each in 1 2; do
	says "process $each of 2" || fail "there were no two processes; see $log"
done
passed "a job that nothing disturbs, in $((SECONDS - begin)) s"

for lost in 1 0; do
	submit killed
	trained $((epochs / 2 - lost * epochs / 4))
	begin=$SECONDS
	kill -KILL "$(rank $lost)"
	ends_as 60 FAILED
	first=$(grep -m 1 'srun: error:' "$log" || true)
	[[ $first = *"task $lost: Killed" ]] || fail "the first word is not of the killed process but \"$first\"; see $log"
	echo "passed after $SECONDS s: a job whose process $lost is killed fails within $((SECONDS - begin)) s:"
	grep 'srun: ' "$log"
done
submit killed
ends_as 180 COMPLETED
same_model killed
passed "submitted again, it goes on to the same model"

submit told
trained $((epochs / 3))
begin=$SECONDS
scancel --signal=TERM "$job"
await 60 "job $job saved and queued itself again" is Restarts 1
says 'srun ended with 75' || fail "a job that was told to stop ended otherwise; see $log"
passed "a job that is told to stop saves, ends with 75 and queues itself again, in $((SECONDS - begin)) s"
start_again
ends_as 180 COMPLETED
same_model told
passed "it goes on to the same model"

log=$folder/apart.log code=0
timeout 60 srun -n2 scgpt-pretrain "${training[@]}" --output "$folder/apart" >"$log" 2>&1 || code=$?
[ $code = 65 ] || fail "processes that cannot meet ended with $code; see $log"
says 'srun --mpi=pmix' || fail "processes that cannot meet do not say so; see $log"
[ "$(compgen -G "$folder/apart*")" = "$log" ] || fail "processes that cannot meet left something; see $folder"
passed "processes that cannot meet are refused:"
cat "$log"
