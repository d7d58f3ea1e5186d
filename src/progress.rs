//! Messages and progress on standard error.
//!
//! A terminal shows a progress bar; a log file gets a line at the start, one per interval, and one at the end.

mod log;

use std::io::{IsTerminal, stderr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use self::log::Level;
pub use self::log::{Format, set_format};

/// Verbosity of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    /// Also notes and progress.
    Normal,
    /// Also details.
    Verbose,
}

/// Global, because standard error is shared by the whole process.
static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Normal as u8);
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Sets the verbosity.
pub fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

fn is_enabled(least: Verbosity) -> bool {
    VERBOSITY.load(Ordering::Relaxed) >= least as u8
}

/// Prints an error; always shown.
pub fn error(text: &str) {
    print(Level::Error, text);
}

/// An error as it would be printed, for signal handlers.
pub fn error_line(text: &str) -> String {
    Level::Error.rendered(log::format(), text, Map::new())
}

/// Prints what to do about an error; always shown.
pub fn hint(text: &str) {
    print(Level::Hint, text);
}

/// Prints the usage of the program; always shown.
pub fn usage(text: &str) {
    print(Level::Usage, text);
}

/// Prints a warning; always shown.
pub fn warning(text: &str) {
    print(Level::Warning, text);
}

/// Prints results, on one or more lines; always shown.
pub fn result(text: &str) {
    print(Level::Result, text);
}

/// Prints a note, unless quiet.
pub fn note(text: &str) {
    if is_enabled(Verbosity::Normal) {
        print(Level::Note, text);
    }
}

/// Prints details, if verbose.
pub fn detail(text: &str) {
    if is_enabled(Verbosity::Verbose) {
        print(Level::Detail, text);
    }
}

fn print(level: Level, text: &str) {
    write(&level.rendered(log::format(), text, Map::new()));
}

/// Writes a line above the progress bars, if any.
#[expect(
    clippy::print_stderr,
    reason = "the only place that writes lines to standard error"
)]
fn write(line: &str) {
    BARS.suspend(|| eprintln!("{line}"));
}

/// Progress of one loop, such as the cells of an epoch.
#[derive(Debug)]
pub struct Progress {
    count: Count,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines(Pace),
}

impl Progress {
    /// Time between two lines in a log.
    const INTERVAL: Duration = Duration::from_secs(10);

    /// Starts at zero; `unit` is a plural, such as "cells".
    pub fn new(what: &str, total: u64, unit: &str) -> Self {
        let count = Count {
            what: what.into(),
            unit: unit.into(),
            total,
            done: 0,
            before: 0,
            fields: String::new(),
        };
        let shown = match () {
            () if !is_enabled(Verbosity::Normal) => Shown::Nothing,
            () if log::format() == Format::Text && stderr().is_terminal() => {
                Shown::Bar(BARS.add(bar(&count)))
            }
            () => {
                count.print(&format!("{what}: {total} {unit}"), Duration::ZERO);
                Shown::Lines(Pace::new(Self::INTERVAL))
            }
        };
        Self { count, shown }
    }

    /// Counts `n` more, and updates the display when it is due.
    pub fn advance(&mut self, n: u64) {
        self.count.done += n;
        match &mut self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_position(self.count.done),
            Shown::Lines(pace) => {
                let elapsed = pace.start.elapsed();
                if pace.is_due(elapsed) {
                    self.count.print(&self.count.line(elapsed), elapsed);
                }
            }
        }
    }

    /// Counts `n` that were done by the run that this one resumes; they do not count for the rate.
    pub fn skip(&mut self, n: u64) {
        self.count.done += n;
        self.count.before += n;
        if let Shown::Bar(bar) = &self.shown {
            bar.set_position(self.count.done);
            bar.reset_eta();
        }
    }

    /// Sets fields displayed after the count, such as "loss=0.31"; shown with the next advance.
    pub fn set_fields(&mut self, fields: impl Into<String>) {
        self.count.fields = fields.into();
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(self.count.fields.clone());
        }
    }

    /// Ends the display with the elapsed time.
    pub fn finish(self) {
        match self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.finish(),
            Shown::Lines(pace) => {
                let elapsed = pace.start.elapsed();
                self.count.print(&self.count.last_line(elapsed), elapsed);
            }
        }
    }
}

fn bar(count: &Count) -> ProgressBar {
    const TEMPLATE: &str =
        "{prefix} {wide_bar} {human_pos}/{human_len} {per_sec}, {eta} left {msg}";
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
    ProgressBar::new(count.total)
        .with_style(style)
        .with_prefix(count.what.clone())
}

/// When the next line is due.
#[derive(Debug)]
struct Pace {
    start: Instant,
    interval: Duration,
    next: Duration,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self {
            start: Instant::now(),
            interval,
            next: interval,
        }
    }

    fn is_due(&mut self, elapsed: Duration) -> bool {
        let due = elapsed >= self.next;
        if due {
            self.next = elapsed + self.interval;
        }
        due
    }
}

#[derive(Debug)]
struct Count {
    what: String,
    unit: String,
    total: u64,
    done: u64,
    /// Of those done, the number done before the start.
    before: u64,
    fields: String,
}

impl Count {
    fn print(&self, text: &str, elapsed: Duration) {
        write(&Level::Progress.rendered(log::format(), text, self.figures(elapsed)));
    }

    /// The figures of a progress line, for programs to read.
    fn figures(&self, elapsed: Duration) -> Map<String, Value> {
        let tenths = |number: f64| (number * 10.0).round() / 10.0;
        let figures = [
            ("what", json!(self.what)),
            ("done", json!(self.done)),
            ("total", json!(self.total)),
            ("unit", json!(self.unit)),
            ("seconds", json!(tenths(elapsed.as_secs_f64()))),
            ("per_second", json!(tenths(self.rate(elapsed)))),
            (
                "seconds_left",
                json!(self.seconds_left(elapsed).map(tenths)),
            ),
        ];
        figures
            .map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect()
    }

    fn line(&self, elapsed: Duration) -> String {
        let Self {
            what,
            unit,
            total,
            done,
            ..
        } = self;
        let percent = 100.0 * *done as f64 / (*total).max(1) as f64;
        let rate = self.rate(elapsed);
        let left = self.seconds_left(elapsed);
        let left = left.map_or_else(String::new, |left| format!(", {} left", duration(left)));
        self.with_fields(format!(
            "{what}: {done}/{total} {unit} ({percent:.0}%), {rate:.1}/s{left}"
        ))
    }

    fn last_line(&self, elapsed: Duration) -> String {
        let Self {
            what, unit, done, ..
        } = self;
        let (took, rate) = (duration(elapsed.as_secs_f64()), self.rate(elapsed));
        self.with_fields(format!("{what}: {done} {unit} in {took}, {rate:.1}/s"))
    }

    fn seconds_left(&self, elapsed: Duration) -> Option<f64> {
        let rate = self.rate(elapsed);
        (rate > 0.0).then(|| self.total.saturating_sub(self.done) as f64 / rate)
    }

    fn rate(&self, elapsed: Duration) -> f64 {
        (self.done - self.before) as f64 / elapsed.as_secs_f64().max(1e-3)
    }

    fn with_fields(&self, mut line: String) -> String {
        if !self.fields.is_empty() {
            line = line + ", " + &self.fields;
        }
        line
    }
}

/// A duration in readable form: `8.4 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(done: u64, fields: &str) -> Count {
        Count {
            what: "training".into(),
            unit: "cells".into(),
            total: 1000,
            done,
            before: 0,
            fields: fields.into(),
        }
    }

    #[test]
    fn a_line_has_count_rate_remaining_time_and_fields() {
        let line = count(250, "loss=0.5").line(Duration::from_secs(10));
        assert_eq!(
            line,
            "training: 250/1000 cells (25%), 25.0/s, 30.0 s left, loss=0.5"
        );
    }

    #[test]
    fn lines_are_correct_with_nothing_done_and_nothing_to_do() {
        assert_eq!(
            count(0, "").line(Duration::from_secs(10)),
            "training: 0/1000 cells (0%), 0.0/s"
        );
        let nothing = Count {
            total: 0,
            ..count(0, "")
        };
        assert_eq!(
            nothing.line(Duration::ZERO),
            "training: 0/0 cells (0%), 0.0/s"
        );
        assert_eq!(
            count(1000, "").last_line(Duration::from_secs(200)),
            "training: 1000 cells in 3 min 20 s, 5.0/s"
        );
    }

    #[test]
    fn figures_are_those_of_the_line() {
        let figures = Value::Object(count(250, "loss=0.5").figures(Duration::from_secs(10)));
        let expected = json!({"what": "training", "done": 250, "total": 1000, "unit": "cells",
            "seconds": 10.0, "per_second": 25.0, "seconds_left": 30.0});
        assert_eq!(figures, expected);
        let start = count(0, "").figures(Duration::ZERO);
        assert_eq!(start["seconds_left"], Value::Null);
    }

    #[test]
    fn lines_come_once_per_interval() {
        let mut pace = Pace::new(Duration::from_secs(10));
        let due = [1, 9, 10, 11, 19, 21].map(|second| pace.is_due(Duration::from_secs(second)));
        assert_eq!(due, [false, false, true, false, false, true]);
    }

    #[test]
    fn durations_read_naturally() {
        assert_eq!(
            [8.44, 59.96, 200.0, 7500.0].map(duration),
            ["8.4 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]
        );
    }
}
