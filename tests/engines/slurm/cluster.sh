# shellcheck shell=bash
# Sourced by the other scripts: starts a Slurm cluster of one node on this machine, in a temporary directory, and stops it.
# Needs root and the Debian packages slurm-wlm and munge.

directory=$(mktemp -d)
export SLURM_CONF=$directory/slurm.conf

fail() {
	echo "FAILED: $*; see $directory" >&2
	exit 1
}

# SECONDS WHAT COMMAND...: waits until the command succeeds.
await() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until ("$@") >"$directory/await.log" 2>&1; do
		((SECONDS < end)) || fail "timed out waiting until $what"
		sleep 0.2
	done
}

idle() {
	[ "$(sinfo --noheader --format=%t | sort -u)" = idle ]
}

start_slurm() {
	local host
	host=$(hostname -s)
	chmod 755 "$directory"
	mkdir "$directory/bin" "$directory/state" "$directory/spool"
	(umask 077 && head -c 128 /dev/urandom >"$directory/munge.key")
	cat >"$SLURM_CONF" <<-END
		ClusterName=test
		SlurmctldHost=$host(127.0.0.1)
		SlurmUser=root
		AuthInfo=socket=$directory/munge.socket
		StateSaveLocation=$directory/state
		SlurmdSpoolDir=$directory/spool
		SlurmctldPidFile=$directory/slurmctld.pid
		SlurmdPidFile=$directory/slurmd.pid
		SlurmctldLogFile=$directory/slurmctld.log
		SlurmdLogFile=$directory/slurmd.log
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		SelectType=select/cons_tres
		SelectTypeParameters=CR_Core_Memory
		SlurmdParameters=config_overrides
		JobAcctGatherType=jobacct_gather/none
		AccountingStorageType=accounting_storage/none
		ReturnToService=2
		KillWait=5
		NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000
		PartitionName=main Nodes=$host Default=YES
		PartitionName=other Nodes=$host
	END
	munged --key-file="$directory/munge.key" --socket="$directory/munge.socket" --pid-file="$directory/munged.pid" \
		--log-file="$directory/munged.log" --seed-file="$directory/munge.seed"
	slurmctld
	slurmd
	await 30 "the node is idle" idle
}

no_jobs() {
	[ -z "$(squeue --noheader --format=%i)" ]
}

# The directory is kept after a failure.
stop() {
	local status=$? daemon pid
	trap - EXIT
	[ -z "${engine:-}" ] || kill "$engine" 2>/dev/null || true
	if [ -e "$directory/slurmctld.pid" ]; then
		scancel --user=root
		await 30 "all jobs are gone" no_jobs
	fi
	for daemon in slurmd slurmctld munged; do
		[ -e "$directory/$daemon.pid" ] || continue
		pid=$(cat "$directory/$daemon.pid")
		kill "$pid"
		await 30 "$daemon has stopped" ended "$pid"
	done
	[ "$status" != 0 ] || rm -rf "$directory"
}

# Zombies have ended, too.
ended() {
	[ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"
}
