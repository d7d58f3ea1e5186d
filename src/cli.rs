//! The runner: reads the command line, runs one program, and maps the result to messages and an exit code.
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

use crate::descriptor;
use crate::distributed;
use crate::failure::{self, Failure};
use crate::options::{Definition, InvalidOptions, Resolved, Shared};
use crate::output;
use crate::programs::{Entry, Program, entry};
use crate::progress::{self, Format, Verbosity};
use crate::run_record::Run;
use crate::signal_handler;

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
            progress::set_format(requested_format(&args));
            reject_subcommand(&error).into()
        }
    }
}

/// The log format requested by the arguments of an unknown subcommand.
fn requested_format(args: &[OsString]) -> Format {
    let is_pair = |pair: &[OsString]| pair[0] == "--log-format" && pair[1] == "json";
    let is_json = args.windows(2).any(is_pair) || args.iter().any(|a| a == "--log-format=json");
    if is_json { Format::Json } else { Format::Text }
}

fn reject_subcommand(error: &clap::Error) -> u8 {
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

/// The entry of the subcommand in the first argument, or the error of clap.
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

/// The subcommand of an entry: the last word of its name.
fn word(entry: &Entry) -> &'static str {
    entry.name.rsplit(' ').next().unwrap_or(entry.name)
}

fn execute(entry: &Entry, args: &[OsString]) -> u8 {
    let definition = (entry.define)();
    if let Some(text) = definition.requested_text(args) {
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
        Err(invalid) => reject(entry, &definition, &invalid),
    }
}

fn show(text: &str) -> u8 {
    output::print(text).map_or_else(|error| conclude(Err(error.into())).0, |()| 0)
}

fn reject(entry: &Entry, definition: &Definition, invalid: &InvalidOptions) -> u8 {
    progress::set_format(invalid.log_format);
    for problem in &invalid.problems {
        progress::error(problem);
    }
    progress::usage(&definition.command.clone().render_usage().to_string());
    progress::usage(&format!("For all options, try `{} --help`.", entry.name));
    failure::USAGE
}

fn run(entry: &Entry, resolved: &Resolved) -> u8 {
    signal_handler::watch(progress::error_line);
    progress::set_verbosity(verbosity(&resolved.shared));
    progress::set_format(resolved.shared.log_format);
    let threads = resolved
        .shared
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    // Fails only if a pool exists already, which happens where tests run several programs in one process.
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
    distributed::leave(code, Failure::Interrupted.code());
    code
}

fn verbosity(shared: &Shared) -> Verbosity {
    match (shared.quiet, shared.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    }
}

/// Prints the error, if any; returns the exit code and the error on one line.
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
        None => request_report(),
    }
    (
        failure.map_or(failure::INTERNAL, Failure::code),
        Some(message),
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn request_report() {
    let command = env::args().collect::<Vec<_>>().join(" ");
    progress::hint(&format!(
        "internal error; please report it with the lines above, the version (scgpt-tools {}) and the command `{command}`",
        env!("CARGO_PKG_VERSION")
    ));
}

/// Runs the work; a panic becomes an error with its message and location.
fn guard(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    static LOCATION: Mutex<Option<String>> = Mutex::new(None);
    let noted = |location: Option<String>| match LOCATION.lock() {
        Ok(mut held) => std::mem::replace(&mut *held, location),
        Err(_) => None,
    };
    let default = panic::take_hook();
    let has_backtrace = env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    panic::set_hook(Box::new(move |panic| {
        noted(panic.location().map(ToString::to_string));
        if has_backtrace {
            default(panic);
        }
    }));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    // Removing a hook restores the default one.
    drop(panic::take_hook());
    outcome.unwrap_or_else(|payload| Err(panicked(&*payload, noted(None))))
}

fn panicked(payload: &(dyn Any + Send), location: Option<String>) -> anyhow::Error {
    let text = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied());
    // libtorch appends its own stack trace; the first line is the message.
    let text = text
        .and_then(|text| text.split('\n').next()?.split("\\n").next())
        .unwrap_or("unknown reason");
    match (Failure::of_text(text), location) {
        (Some(failure), _) => failure.error(text),
        (None, Some(location)) => anyhow::anyhow!("internal error (panic) at {location}: {text}"),
        (None, None) => anyhow::anyhow!("internal error (panic): {text}"),
    }
}

#[cfg(test)]
mod tests;
