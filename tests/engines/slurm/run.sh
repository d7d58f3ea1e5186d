#!/usr/bin/env bash
# Runs the pipeline on a Slurm cluster, which this script starts on this machine and stops again. Tasks that are canceled, run out of time
# or lose their node must be retried, and a pipeline whose engine was killed must resume.
# Needs root and the Debian packages slurm-wlm and munge, so it is not part of `make test`:
#     make all engines && sudo tests/engines/slurm/run.sh [DIRECTORY OF THE PROGRAMS]
set -euo pipefail

root=$(realpath "$(dirname "$0")/../../..")
programs=$(realpath "${1:-$root/target/release}")
# shellcheck source-path=SCRIPTDIR source=cluster.sh
source "$root/tests/engines/slurm/cluster.sh"
export NXF_HOME=$directory/home PATH=$directory/bin:$programs:$root/tests/engines/nextflow:$PATH

# Makes a launch directory of this name and enters it.
enter() {
	mkdir -p "$directory/$1"
	cd "$directory/$1"
	log=$PWD/log
}

# The engine polls more often than it needs to on a cluster.
pipeline() {
	exec nextflow run "$root" -c "$directory/fast.config" "$@" >"$log" 2>&1
}

# COUNT PATTERN: the log must have this many matching lines.
logged() {
	local found
	found=$(grep -c -e "$2" "$log" || true)
	[ "$found" = "$1" ] || fail "expected \"$2\" $1 times, found it $found times in $log"
}

passed() {
	cmp "$directory/here/results/summary.tsv" results/summary.tsv || fail "results in $PWD differ from those without Slurm"
	echo "passed after $SECONDS s: $*"
}

# Launches the pipeline in a directory of this name, and returns when both samples are being annotated. The tasks wait for `release`.
# Tasks must not end before their program starts: the wrapper of the engine would then end with 1.
hold() {
	cat >"$directory/bin/scgpt-annotate" <<-END
		#!/bin/bash
		[ "\$1" = --version ] || touch "$directory/held.\$SLURM_JOB_ID"
		[ "\$1" = --version ] || until [ -e "$directory/go" ]; do sleep 0.2; done
		exec "$programs/scgpt-annotate" "\$@"
	END
	chmod +x "$directory/bin/scgpt-annotate"
	rm -f "$directory/go"
	enter "$1"
	shift
	pipeline -profile test,slurm "$@" &
	engine=$!
	await 120 "two samples are being annotated" two_annotate
}

release() {
	touch "$directory/go"
	wait "$engine" || fail "the pipeline ended badly; see $log"
}

annotating() {
	squeue --noheader --states=RUNNING --format='%i %j' | sed -n 's/ .*_SCGPT_ANNOTATE_.*//p'
}

two_annotate() {
	local jobs
	mapfile -t jobs < <(annotating)
	[ ${#jobs[@]} = 2 ] && [ -e "$directory/held.${jobs[0]}" ] && [ -e "$directory/held.${jobs[1]}" ]
}

# Kills everything on the node. Some processes may have ended already.
lose_the_node() {
	local job pids
	pids=("$(cat "$directory/slurmd.pid")")
	for job in $(annotating); do
		mapfile -t -O "${#pids[@]}" pids < <(pgrep --full "^slurmstepd: \\[$job\\." && scontrol listpids "$job" | awk 'NR > 1 && $1 > 0 { print $1 }')
	done
	kill -KILL "${pids[@]}" 2>/dev/null
	scontrol update NodeName="$(hostname -s)" State=DOWN Reason=test
}

trap stop EXIT
start_slurm
cat >"$directory/fast.config" <<-END
	executor {
	    pollInterval      = '1 sec'
	    queueStatInterval = '2 sec'
	    exitReadTimeout   = '5 sec'
	}
END
cat >"$directory/short.config" <<-END
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
logged 3 'Submitted process'
passed "through Slurm"

enter other
(pipeline -profile test,slurm --queue other) || fail "the pipeline; see $log"
found=$(squeue --noheader --states=all --format=%P | sort | uniq -c | xargs)
[ "$found" = '3 main 3 other' ] || fail "jobs of each partition: $found"
passed "on a partition of choice"

enter nowhere
if (pipeline -profile test,slurm --queue nowhere); then fail "a missing partition was accepted"; fi
logged 1 'invalid partition'
logged 0 'Execution is retried'
echo "passed after $SECONDS s: a missing partition is reported at once"

hold canceled
scancel "$(annotating | head -1)"
await 60 "the engine knows" logged 1 'error exit status (143) -- Execution is retried (1)'
release
logged 1 'Execution is retried'
passed "a canceled task is retried"

hold late -c "$directory/short.config"
await 180 "the engine knows" logged 2 'error exit status (140) -- Execution is retried (1)'
release
logged 2 'Execution is retried'
[ "$(squeue --noheader --states=all --format=%l | grep -cx 2:00)" = 2 ] || fail "the second attempts have no more time"
passed "tasks that ran out of time are retried with more time"

hold lost
lose_the_node
slurmd
await 60 "the engine knows" logged 2 'terminated for an unknown reason .* Execution is retried (1)'
release
logged 2 'Execution is retried'
passed "tasks of a lost node are retried"

hold killed
{ kill -KILL "$engine" && wait "$engine"; } 2>/dev/null || true
scancel --user=root
touch "$directory/go"
mv log log.killed
(pipeline -profile test,slurm -resume) || fail "the pipeline; see $log"
logged 1 'Cached process'
logged 2 'Submitted process'
passed "a pipeline whose engine was killed resumes"
