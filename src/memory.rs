//! Peak memory of the process and CPU model, on Linux only.

use std::fs;

/// Writing this resets the peak that the system keeps for a process (see proc(5), `clear_refs`).
const RESET: &str = "5";

/// Peak memory by part of a run. Parts may be nested.
#[derive(Debug, Default)]
pub struct Peak {
    /// Bytes, since the start of the process.
    whole: Option<u64>,
    /// Bytes, since the start of the innermost part.
    part: Option<u64>,
}

impl Peak {
    /// Begins a part; pass the result to [`Self::end`].
    pub fn begin(&mut self) -> Option<u64> {
        self.update();
        let outer = self.part.take();
        // Without a reset the peak is that of the whole process, not of the part.
        let is_reset = fs::write("/proc/self/clear_refs", RESET).is_ok();
        self.part = is_reset.then(resident).flatten();
        outer
    }

    /// Ends a part; returns its peak memory in bytes.
    pub fn end(&mut self, outer: Option<u64>) -> Option<u64> {
        self.update();
        let part = self.part;
        self.part = part.max(outer);
        part
    }

    /// Peak memory of the process in bytes.
    pub fn total(&mut self) -> Option<u64> {
        self.update();
        self.whole
    }

    fn update(&mut self) {
        let peak = resident();
        self.whole = self.whole.max(peak);
        self.part = self.part.and(peak).max(self.part);
    }
}

/// Peak memory since the last reset, in bytes.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// CPU model.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut lines = text.lines();
    let model = lines.find_map(|line| line.strip_prefix("model name"))?;
    Some(model.trim_start_matches([':', ' ', '\t']).to_owned())
}
