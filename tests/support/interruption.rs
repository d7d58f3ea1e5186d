//! Programs that are killed or stopped by a signal, and resumed.
//!
//! `SCGPT_TEST_KILLS` sets the number of kills, to search longer for a critical moment.

use scgpt_tools::random::{Seed, uniform};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Waits for a run to end; its exit code and standard error.
pub fn end(child: Child) -> (Option<i32>, String) {
    let done = child.wait_with_output().expect("the program ends");
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    (done.status.code(), stderr)
}

pub fn kill(mut child: Child) {
    child.kill().expect("a process of ours");
    child.wait().expect("its end");
}

/// Sends the signal by which engines stop a program, and waits for its end.
pub fn stop(child: Child) -> (Option<i32>, String) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -TERM {}", child.id())])
        .status();
    assert!(sent.expect("a shell").success());
    end(child)
}

/// Directory of a run until its output is complete.
pub fn work_folder(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

pub fn wait_for(file: &Path) {
    let clock = Instant::now();
    while !file.exists() {
        let waited = clock.elapsed();
        assert!(waited < Duration::from_secs(60), "no {}", file.display());
        sleep(Duration::from_millis(1));
    }
}

/// Kills runs that write to an output repeatedly until they complete, and checks the outputs.
///
/// `last` is the file without which the output is not complete, `within` the time in which kills come.
pub fn kill_and_resume(
    (last, within): (&str, Duration),
    start: impl Fn(&Path) -> Child,
    check: impl Fn(&Path, &str),
) {
    let kills = std::env::var("SCGPT_TEST_KILLS")
        .map_or(4, |n| n.parse().expect("SCGPT_TEST_KILLS is a number"));
    let mut moments = Seed(0).stream("moments to kill at", &[u64::from(std::process::id())]);
    let (mut done, mut runs) = (0, 0);
    while done < kills {
        let folder = tempdir().expect("a temporary directory");
        let output = folder.path().join("output");
        let mut hit = 0;
        loop {
            let mut child = start(&output);
            let after = within.mul_f64(uniform(&mut moments));
            if done + hit < kills {
                sleep(after);
                child.kill().expect("a process of ours");
            }
            let (code, stderr) = end(child);
            match code {
                None => hit += 1,
                Some(0) => break,
                // The kill came between the last rename and the exit: nothing is left to resume.
                Some(_) if stderr.contains("exists") && output.join(last).exists() => break,
                Some(code) => panic!("exit code {code} when resumed after {hit} kills:\n{stderr}"),
            }
        }
        check(&output, &format!("killed {hit} times"));
        (done, runs) = (done + hit, runs + 1);
        assert!(runs < 20 * kills, "no kill hits a running program");
    }
}
