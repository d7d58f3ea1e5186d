//! What memory the process holds at most and what it runs on, as Linux tells it; elsewhere nothing is known.

use std::fs;

/// Writing this resets the peak that the system keeps for a process (see proc(5), `clear_refs`).
const RESET: &str = "5";

/// Peaks of memory, by part of a run. Parts may lie within one another.
#[derive(Debug, Default)]
pub struct Peak {
    /// Bytes, since the start of the process.
    whole: Option<u64>,
    /// Bytes, since the start of the innermost part.
    part: Option<u64>,
}

impl Peak {
    /// Begins a part; what it returns belongs to [`Self::end`].
    pub fn begin(&mut self) -> Option<u64> {
        self.look();
        let outer = self.part.take();
        // Without a reset the peak is that of the whole process, and says nothing of a part.
        let is_reset = fs::write("/proc/self/clear_refs", RESET).is_ok();
        self.part = is_reset.then(resident).flatten();
        outer
    }

    /// Ends a part: the most it held, in bytes.
    pub fn end(&mut self, outer: Option<u64>) -> Option<u64> {
        self.look();
        let part = self.part;
        self.part = part.max(outer);
        part
    }

    /// The most that the process has held, in bytes.
    pub fn total(&mut self) -> Option<u64> {
        self.look();
        self.whole
    }

    fn look(&mut self) {
        let peak = resident();
        self.whole = self.whole.max(peak);
        self.part = self.part.and(peak).max(self.part);
    }
}

/// The peak of memory since it was last reset, in bytes.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Model of the processor.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut lines = text.lines();
    let model = lines.find_map(|line| line.strip_prefix("model name"))?;
    Some(model.trim_start_matches([':', ' ', '\t']).to_owned())
}
