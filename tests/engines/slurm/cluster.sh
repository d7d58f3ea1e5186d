# shellcheck shell=bash
# Sourced by the scripts beside it: starts a real Slurm of one node on this machine alone, in a folder of its own, and stops it again.
# It needs root and Debian's packages slurm-wlm and munge.

folder=$(mktemp -d)
export SLURM_CONF=$folder/slurm.conf

fail() {
	echo "FAILED: $*; see $folder" >&2
	exit 1
}

# Waits up to so many seconds until a command succeeds.
await() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until ("$@") >"$folder/await.log" 2>&1; do
		((SECONDS < end)) || fail "waited in vain until $what"
		sleep 0.2
	done
}

idle() {
	[ "$(sinfo --noheader --format=%t | sort -u)" = idle ]
}

start_slurm() {
	local host
	host=$(hostname -s)
	chmod 755 "$folder"
	mkdir "$folder/bin" "$folder/state" "$folder/spool"
	(umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
	cat >"$SLURM_CONF" <<-END
		ClusterName=test
		SlurmctldHost=$host(127.0.0.1)
		SlurmUser=root
		AuthInfo=socket=$folder/munge.socket
		StateSaveLocation=$folder/state
		SlurmdSpoolDir=$folder/spool
		SlurmctldPidFile=$folder/slurmctld.pid
		SlurmdPidFile=$folder/slurmd.pid
		SlurmctldLogFile=$folder/slurmctld.log
		SlurmdLogFile=$folder/slurmd.log
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
	munged --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
		--log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
	slurmctld
	slurmd
	await 30 "the node is idle" idle
}

no_jobs() {
	[ -z "$(squeue --noheader --format=%i)" ]
}

# The folder stays where something failed.
stop() {
	local status=$? daemon pid
	trap - EXIT
	[ -z "${engine:-}" ] || kill "$engine" 2>/dev/null || true
	if [ -e "$folder/slurmctld.pid" ]; then
		scancel --user=root
		await 30 "all jobs are gone" no_jobs
	fi
	for daemon in slurmd slurmctld munged; do
		[ -e "$folder/$daemon.pid" ] || continue
		pid=$(cat "$folder/$daemon.pid")
		kill "$pid"
		await 30 "$daemon has stopped" ended "$pid"
	done
	[ "$status" != 0 ] || rm -rf "$folder"
}

# A process that nobody has waited for has ended too.
ended() {
	[ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"
}
