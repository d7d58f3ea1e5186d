//! The runner: reads the command line, runs one program, and turns whatever happens into words and an exit code.
//!
//! Exit codes: 0 done, 1 internal, 2 usage, and those of [`Failure`]. Messages go to standard error as `error: a: b: c` on one
//! line, hints on their own lines; or each as a JSON object.

use std::any::Any;
use std::env;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::Command;

use crate::crash;
use crate::descriptor;
use crate::failure::{self, Failure};
use crate::options::{Definition, Refusal, Resolved, Shared};
use crate::output;
use crate::programs::{Entry, Program, entry};
use crate::progress::{self, Format, Verbosity};
use crate::ranks;
use crate::run_record::Run;

/// The whole of a program's `main`.
pub fn main<P: Program>() -> ExitCode {
    execute(&entry::<P>(), &arguments()).into()
}

/// The whole of `main` for a program with subcommands, whose names are `name` and a word.
pub fn dispatch(name: &'static str, summary: &'static str, entries: &[Entry]) -> ExitCode {
    let args = arguments();
    match choose(name, summary, entries, &args) {
        Ok(chosen) => execute(chosen, &args[1..]).into(),
        Err(error) if error.exit_code() == 0 => show(&error.render().to_string()).into(),
        Err(error) => {
            progress::set_format(format_asked_for(&args));
            refuse_word(&error).into()
        }
    }
}

/// The form of messages that arguments of no known program ask for.
fn format_asked_for(args: &[OsString]) -> Format {
    let is_pair = |pair: &[OsString]| pair[0] == "--log-format" && pair[1] == "json";
    let is_json = args.windows(2).any(is_pair) || args.iter().any(|a| a == "--log-format=json");
    if is_json { Format::Json } else { Format::Text }
}

fn refuse_word(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    let error = text.strip_prefix("error: ");
    match error.and_then(|error| error.split_once('\n')) {
        Some((error, usage)) => {
            progress::error(error);
            progress::usage(usage.trim());
        }
        None => progress::usage(text.trim_end()),
    }
    failure::USAGE
}

fn arguments() -> Vec<OsString> {
    env::args_os().skip(1).collect()
}

/// The entry that the first argument names, or what clap has to say about it.
fn choose<'a>(
    name: &'static str,
    summary: &'static str,
    entries: &'a [Entry],
    args: &[OsString],
) -> Result<&'a Entry, clap::Error> {
    let command = Command::new(name)
        .about(summary)
        .version(env!("CARGO_PKG_VERSION"))
        .no_binary_name(true)
        .bin_name(name)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands(
            entries
                .iter()
                .map(|entry| Command::new(word(entry)).about(entry.summary)),
        );
    let matches = command.try_get_matches_from(args.first())?;
    let chosen = entries
        .iter()
        .find(|entry| matches.subcommand_name() == Some(word(entry)));
    Ok(chosen.expect("clap accepts only the words it was given"))
}

/// The last word of an entry's name.
fn word(entry: &Entry) -> &'static str {
    entry.name.rsplit(' ').next().unwrap_or(entry.name)
}

fn execute(entry: &Entry, args: &[OsString]) -> u8 {
    let definition = (entry.define)();
    if let Some(text) = definition.text_asked_for(args) {
        return show(&text);
    }
    if args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--schema")
    {
        return show(&descriptor::text(entry));
    }
    match definition.resolve(args, entry.check) {
        Ok(resolved) => run(entry, &resolved),
        Err(refusal) => refuse(entry, &definition, &refusal),
    }
}

fn show(text: &str) -> u8 {
    output::print(text).map_or_else(|error| conclude(Err(error.into())).0, |()| 0)
}

fn refuse(entry: &Entry, definition: &Definition, refusal: &Refusal) -> u8 {
    progress::set_format(refusal.log_format);
    for problem in &refusal.problems {
        progress::error(problem);
    }
    progress::usage(&definition.command.clone().render_usage().to_string());
    progress::usage(&format!("For all options, try `{} --help`.", entry.name));
    failure::USAGE
}

fn run(entry: &Entry, resolved: &Resolved) -> u8 {
    crash::watch(progress::error_line);
    progress::set_verbosity(verbosity(&resolved.shared));
    progress::set_format(resolved.shared.log_format);
    let threads = resolved
        .shared
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    // An error means that a pool exists already, which only happens where several programs run in one test process.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    let mut run = Run::start(entry.name, resolved.all(), threads);
    if let Some(path) = &resolved.shared.record {
        run.record_at(path);
    }
    let (code, message) = conclude(guard(|| (entry.run)(&resolved.program, &mut run)));
    let code = match run.finish(code, message) {
        Err(error) if code == 0 => conclude(Err(error.into())).0,
        _ => code,
    };
    ranks::leave(code, Failure::Interrupted.code());
    code
}

fn verbosity(shared: &Shared) -> Verbosity {
    match (shared.quiet, shared.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    }
}

/// Says how it ended; returns the exit code and the error on one line.
fn conclude(outcome: anyhow::Result<()>) -> (u8, Option<String>) {
    let Err(error) = outcome else {
        return (0, None);
    };
    let is_closed = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref().is_some_and(output::Error::is_closed_pipe)
    };
    if error.chain().any(is_closed) {
        return (0, None);
    }
    let failure = Failure::of(&error);
    let message = one_line(&format!("{error:#}"));
    progress::error(&message);
    match failure {
        Some(failure) => failure.hint().into_iter().for_each(progress::hint),
        None => ask_for_report(),
    }
    (
        failure.map_or(failure::INTERNAL, Failure::code),
        Some(message),
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn ask_for_report() {
    let command = env::args().collect::<Vec<_>>().join(" ");
    progress::hint(&format!(
        "this may be a fault of the program; please report it with the lines above and: scgpt-tools {}, command `{command}`",
        env!("CARGO_PKG_VERSION")
    ));
}

/// Runs the work; a panic becomes an error with its message and place.
fn guard(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    static PLACE: Mutex<Option<String>> = Mutex::new(None);
    let noted = |place: Option<String>| match PLACE.lock() {
        Ok(mut held) => std::mem::replace(&mut *held, place),
        Err(_) => None,
    };
    let default = panic::take_hook();
    let says_all = env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    panic::set_hook(Box::new(move |panic| {
        noted(panic.location().map(ToString::to_string));
        if says_all {
            default(panic);
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    // Taking a hook away brings the default one back.
    drop(panic::take_hook());
    outcome.unwrap_or_else(|payload| Err(panicked(&*payload, noted(None))))
}

fn panicked(payload: &(dyn Any + Send), place: Option<String>) -> anyhow::Error {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied());
    // libtorch appends its own stack to the message; the first line says what happened.
    let text = text
        .and_then(|text| text.split('\n').next()?.split("\\n").next())
        .unwrap_or("unknown reason");
    match (Failure::of_text(text), place) {
        (Some(failure), _) => failure.error(text),
        (None, Some(place)) => anyhow::anyhow!("stopped unexpectedly at {place}: {text}"),
        (None, None) => anyhow::anyhow!("stopped unexpectedly: {text}"),
    }
}

#[cfg(test)]
mod tests;
