use std::io;

use super::*;
use crate::options::tests::Toy;
use crate::programs::{Facts, Resources};

const FACTS: Facts = Facts {
    topics: &[],
    operations: &[],
    resources: Resources {
        cpus: 1,
        memory_gb: 1,
        gpu: false,
    },
    contents: &[],
};

struct Works;
struct Fails;

impl Program for Works {
    const NAME: &'static str = "scgpt-toy works";
    const SUMMARY: &'static str = "Counts its epochs";
    const FACTS: Facts = FACTS;
    type Options = Toy;

    fn check(options: &Toy) -> Vec<String> {
        let clashes = options.max_cells.is_some() && options.batch.is_none();
        clashes
            .then(|| "`--max-cells` needs `--batch`".to_owned())
            .into_iter()
            .collect()
    }

    fn run(options: Toy, run: &mut Run) -> anyhow::Result<()> {
        run.metric("epochs", options.training.epochs);
        Ok(())
    }
}

impl Program for Fails {
    const NAME: &'static str = "scgpt-toy fails";
    const SUMMARY: &'static str = "Fails on request";
    const FACTS: Facts = FACTS;
    type Options = Toy;

    fn run(options: Toy, _: &mut Run) -> anyhow::Result<()> {
        match options.labels.as_str() {
            "input" => Err(Failure::Input.error("no gene of the cells is in the vocabulary")),
            "full" => Err(
                anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull))
                    .context("could not write `x`"),
            ),
            "stopped" => Err(Failure::Interrupted.error("stopped after epoch 3")),
            "pipe" => Err(output::Error::Print(io::ErrorKind::BrokenPipe.into()).into()),
            "memory" => panic!("Torch(\"CUDA out of memory. Tried to allocate\\n0: somewhere\")"),
            "device" => panic!("CUDA error: an illegal memory access was encountered"),
            "panic" => panic!("index out of range"),
            other => Err(anyhow::anyhow!("{other}")),
        }
    }
}

const ENTRIES: [Entry; 2] = [entry::<Works>(), entry::<Fails>()];

fn args(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// The panic hook is global to the process; only tests run two programs in one process.
static ALONE: Mutex<()> = Mutex::new(());

fn code(entry: &Entry, line: &str) -> u8 {
    let _alone = ALONE.lock();
    execute(
        entry,
        &args(&format!(
            "--quiet --input {} --output toy.h5ad {line}",
            env!("CARGO_MANIFEST_DIR")
        )),
    )
}

#[test]
fn exit_codes_follow_the_failure() {
    let exit_code = |label: &str| code(&ENTRIES[1], &format!("--labels {label}"));
    let kinds = [
        "input", "device", "memory", "full", "stopped", "pipe", "panic", "anything",
    ];
    assert_eq!(kinds.map(exit_code), [65, 69, 71, 74, 75, 0, 1, 1]);
    assert_eq!(code(&ENTRIES[0], "--labels x"), 0);
    assert_eq!(code(&ENTRIES[0], ""), 2);
    assert_eq!(
        code(&ENTRIES[0], "--labels x --max-cells 3"),
        2,
        "violated rules of the program are usage errors"
    );
}

#[test]
fn a_run_writes_its_record_on_success_and_failure() {
    let folder = tempfile::tempdir().unwrap();
    let record = |name: &str, entry: &Entry, label: &str| {
        let path = folder.path().join(name);
        code(
            entry,
            &format!("--labels {label} --epochs 4 --record {}", path.display()),
        );
        serde_json::from_slice::<crate::run_record::Record>(&std::fs::read(path).unwrap()).unwrap()
    };
    let done = record("done.json", &ENTRIES[0], "x");
    assert_eq!(
        (
            done.exit_status,
            &done.metrics["epochs"],
            &done.options["epochs"]
        ),
        (0, &4.into(), &4.into())
    );
    assert_eq!(
        (done.program.as_str(), done.error),
        ("scgpt-toy works", None)
    );
    let failed = record("failed.json", &ENTRIES[1], "full");
    assert_eq!(failed.exit_status, 74);
    assert!(failed.error.unwrap().starts_with("could not write `x`: "));
    let panicked = record("panicked.json", &ENTRIES[1], "panic").error.unwrap();
    assert!(
        panicked.contains("index out of range") && panicked.contains("tests.rs"),
        "{panicked}"
    );
    assert_eq!(
        record("memory.json", &ENTRIES[1], "memory").error.unwrap(),
        "Torch(\"CUDA out of memory. Tried to allocate"
    );
}

#[test]
fn the_first_word_chooses_the_subcommand() {
    let choose = |line: &str| choose("scgpt-toy", "Two toys", &ENTRIES, &args(line));
    assert_eq!(choose("fails --labels x").unwrap().name, "scgpt-toy fails");
    assert_eq!(choose("works --help").unwrap().name, "scgpt-toy works");
    let help = choose("--help").unwrap_err();
    assert_eq!(help.exit_code(), 0);
    assert!(
        help.to_string().contains("Counts its epochs")
            && help.to_string().contains("Fails on request")
    );
    assert_eq!(choose("--version").unwrap_err().exit_code(), 0);
    assert_eq!(
        (
            choose("").unwrap_err().exit_code(),
            choose("wroks").unwrap_err().exit_code()
        ),
        (2, 2)
    );
    assert!(choose("work").unwrap_err().to_string().contains("works"));
}
