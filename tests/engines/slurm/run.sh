#!/usr/bin/env bash
# The pipeline through a real Slurm, which this script starts on this machine alone, in a folder of its own, and stops again: tasks
# that are cancelled, run out of time or lose their node must be tried again, and a pipeline whose engine was killed must go on.
# It needs root and Debian's packages slurm-wlm and munge, so it is no part of `make test`:
#     make all engines && sudo tests/engines/slurm/run.sh [FOLDER OF THE PROGRAMS]
set -euo pipefail

root=$(realpath "$(dirname "$0")/../../..")
programs=$(realpath "${1:-$root/target/release}")
# shellcheck source-path=SCRIPTDIR source=cluster.sh
source "$root/tests/engines/slurm/cluster.sh"
export NXF_HOME=$folder/home PATH=$folder/bin:$programs:$root/tests/engines/nextflow:$PATH

# Goes to a new folder of that name, where the pipeline is to be launched.
enter() {
	mkdir -p "$folder/$1"
	cd "$folder/$1"
	log=$PWD/log
}

# The engine looks more often than it must on a cluster.
pipeline() {
	exec nextflow run "$root" -c "$folder/fast.config" "$@" >"$log" 2>&1
}

# So many lines of the log must have these words.
says() {
	local found
	found=$(grep -c -e "$2" "$log" || true)
	[ "$found" = "$1" ] || fail "\"$2\" is $found and not $1 times in $log"
}

passed() {
	cmp "$folder/here/results/summary.tsv" results/summary.tsv || fail "other results than without Slurm in $PWD"
	echo "passed after $SECONDS s: $*"
}

# Launches the pipeline in a folder of that name, and comes back when both samples are being annotated. They wait for `release`.
# Tasks that are ended before their program starts are not meant: the engine's own wrapper then ends with 1.
hold() {
	cat >"$folder/bin/scgpt-annotate" <<-END
		#!/bin/bash
		[ "\$1" = --version ] || touch "$folder/held.\$SLURM_JOB_ID"
		[ "\$1" = --version ] || until [ -e "$folder/go" ]; do sleep 0.2; done
		exec "$programs/scgpt-annotate" "\$@"
	END
	chmod +x "$folder/bin/scgpt-annotate"
	rm -f "$folder/go"
	enter "$1"
	shift
	pipeline -profile test,slurm "$@" &
	engine=$!
	await 120 "two samples are being annotated" two_annotate
}

release() {
	touch "$folder/go"
	wait "$engine" || fail "the pipeline ended badly; see $log"
}

annotating() {
	squeue --noheader --states=RUNNING --format='%i %j' | sed -n 's/ .*_SCGPT_ANNOTATE_.*//p'
}

two_annotate() {
	local jobs
	mapfile -t jobs < <(annotating)
	[ ${#jobs[@]} = 2 ] && [ -e "$folder/held.${jobs[0]}" ] && [ -e "$folder/held.${jobs[1]}" ]
}

# What runs on the node is gone at once, with no chance to say so. Some may have ended by itself.
lose_the_node() {
	local job pids
	pids=("$(cat "$folder/slurmd.pid")")
	for job in $(annotating); do
		mapfile -t -O "${#pids[@]}" pids < <(pgrep --full "^slurmstepd: \\[$job\\." && scontrol listpids "$job" | awk 'NR > 1 && $1 > 0 { print $1 }')
	done
	kill -KILL "${pids[@]}" 2>/dev/null
	scontrol update NodeName="$(hostname -s)" State=DOWN Reason=test
}

trap stop EXIT
start_slurm
cat >"$folder/fast.config" <<-END
	executor {
	    pollInterval      = '1 sec'
	    queueStatInterval = '2 sec'
	    exitReadTimeout   = '5 sec'
	}
END
cat >"$folder/short.config" <<-END
	process {
	    withLabel: process_medium {
	        time = { 1.min * task.attempt }
	    }
	}
END

enter here
(pipeline -profile test) || fail "the pipeline without Slurm; see $log"

enter plain
(pipeline -profile test,slurm) || fail "the pipeline; see $log"
says 3 'Submitted process'
passed "through Slurm"

enter other
(pipeline -profile test,slurm --queue other) || fail "the pipeline; see $log"
found=$(squeue --noheader --states=all --format=%P | sort | uniq -c | xargs)
[ "$found" = '3 main 3 other' ] || fail "jobs of each partition: $found"
passed "on a partition of choice"

enter nowhere
if (pipeline -profile test,slurm --queue nowhere); then fail "a partition that is not there was taken"; fi
says 1 'invalid partition'
says 0 'Execution is retried'
echo "passed after $SECONDS s: a partition that is not there is reported at once"

hold cancelled
scancel "$(annotating | head -1)"
await 60 "the engine knows" says 1 'error exit status (143) -- Execution is retried (1)'
release
says 1 'Execution is retried'
passed "a cancelled task is tried again"

hold late -c "$folder/short.config"
await 180 "the engine knows" says 2 'error exit status (140) -- Execution is retried (1)'
release
says 2 'Execution is retried'
[ "$(squeue --noheader --states=all --format=%l | grep -cx 2:00)" = 2 ] || fail "the second attempts have no more time"
passed "tasks that ran out of time are tried again with more"

hold lost
lose_the_node
slurmd
await 60 "the engine knows" says 2 'terminated for an unknown reason .* Execution is retried (1)'
release
says 2 'Execution is retried'
passed "tasks of a lost node are tried again"

hold killed
{ kill -KILL "$engine" && wait "$engine"; } 2>/dev/null || true
scancel --user=root
touch "$folder/go"
mv log log.killed
(pipeline -profile test,slurm -resume) || fail "the pipeline; see $log"
says 1 'Cached process'
says 2 'Submitted process'
passed "a pipeline whose engine was killed goes on"
