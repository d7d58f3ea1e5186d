//! Runs the pipelines in the real Nextflow (`make engines`), on simulated cells with the built programs.

use crate::support::needs::skip;
use crate::support::programs;
use crate::support::sha256;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::{TempDir, tempdir};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Launch directory of the engine, with its cache.
struct Launch {
    directory: TempDir,
    programs: PathBuf,
}

impl Launch {
    /// The test is skipped where the engine is not there.
    fn new() -> Option<Self> {
        if !root().join(".deps/nextflow/.ready").exists() {
            skip("no Nextflow; `make engines` fetches it");
            return None;
        }
        let programs = programs::path("scgpt-annotate");
        let programs = programs.parent().expect("in a directory").to_owned();
        let directory = tempdir().expect("a temporary directory");
        Some(Self {
            directory,
            programs,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The engine with these arguments; `bin` of the launch directory comes before our programs on PATH.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("tests/engines/nextflow/nextflow"));
        let path = std::env::var("PATH").unwrap_or_default();
        let ours = [self.path("bin"), self.programs.clone()];
        let ours = ours.map(|path| path.display().to_string()).join(":");
        command
            .args(arguments)
            .current_dir(&self.directory)
            .env("PATH", format!("{ours}:{path}"))
            .env("NXF_HOME", self.path("home"))
            .env_remove("SCGPT_MODELS");
        command
    }

    fn nextflow(&self, arguments: &[&str]) -> Output {
        one_at_a_time(&mut self.command(arguments))
    }

    /// The same with the parser of strict syntax.
    fn strict(&self, arguments: &[&str]) -> Output {
        one_at_a_time(self.command(arguments).env("NXF_SYNTAX_PARSER", "v2"))
    }

    /// Runs the pipeline with the profile `test`. Returns whether it succeeded, and the output of the engine.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        let root = root().display().to_string();
        let run = ["run", &root, "-profile", "test"];
        let done = self.nextflow(&[&run, arguments].concat());
        (done.status.success(), messages(&done))
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let (is_done, messages) = self.run(arguments);
        assert!(is_done, "{arguments:?}: {messages}");
        messages
    }

    /// Replaces a program with a shell script, in which `$real` is the path of the program.
    fn replace(&self, program: &str, script: &str) {
        fs::create_dir_all(self.path("bin")).expect("a directory");
        let file = self.path("bin").join(program);
        let real = programs::path(program);
        let text = format!("#!/bin/bash\nreal={}\n{script}\n", real.display());
        fs::write(&file, text).expect("a script");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("to make it run");
    }

    /// Checksums of results.
    fn checksums(&self, names: &[&str]) -> Vec<String> {
        let read = |name: &&str| sha256(&fs::read(self.path(name)).expect("a result"));
        names.iter().map(read).collect()
    }
}

/// Runs one engine at a time, to limit memory.
fn one_at_a_time(command: &mut Command) -> Output {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    command.output().expect("Java starts")
}

fn messages(output: &Output) -> String {
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    texts.join("\n")
}

/// Number of submitted or cached tasks, except the report at the end of every pipeline.
fn tasks(messages: &str, what: &str) -> usize {
    let what = format!("{what} process");
    let lines = messages.lines().filter(|line| line.contains(&what));
    lines.filter(|line| !line.contains("SCGPT_REPORT")).count()
}

fn count(messages: &str, word: &str) -> usize {
    messages.matches(word).count()
}

/// All files under a directory with this ending.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let found = entries.flat_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return files(&path, end);
        }
        let is_found = path.to_string_lossy().ends_with(end);
        is_found.then_some(path).into_iter().collect()
    });
    found.collect()
}

/// This version of the linter stops at the first file without both an error and a warning, so one of each is added at the end of every
/// file; the linter must find these and nothing else.
#[test]
fn the_linter_finds_nothing() {
    let Some(launch) = Launch::new() else { return };
    let mut planted = Vec::new();
    for part in ["main.nf", "workflows", "modules"] {
        let copied = Command::new("cp")
            .arg("-r")
            .args([&root().join(part), launch.directory.path()])
            .status();
        assert!(copied.is_ok_and(|status| status.success()), "{part}");
    }
    for file in files(launch.directory.path(), ".nf") {
        let text = fs::read_to_string(&file).expect("a script");
        let line = text.lines().count() + 3;
        let wrong = "\ndef planted() {\n    def unused = no_such_name\n}\n";
        fs::write(&file, text + wrong).expect("a copy");
        let name = file
            .strip_prefix(launch.directory.path())
            .expect("in the directory");
        let name = name.display();
        planted.push(format!(
            "Error {name}:{line}:18: `no_such_name` is not defined"
        ));
        planted.push(format!(
            "Warn  {name}:{line}:9: Variable was declared but not used"
        ));
    }
    let messages = messages(&launch.nextflow(&["lint", "."]));
    let is_report = |line: &&str| {
        ["Error ", "Warn  "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let mut found: Vec<&str> = messages.lines().filter(is_report).collect();
    found.sort_unstable();
    planted.sort_unstable();
    assert_eq!(found, planted, "{messages}");
}

#[test]
fn every_profile_is_valid_strict_configuration() {
    let Some(launch) = Launch::new() else { return };
    let all = [
        "test,gpu,docker",
        "singularity,slurm",
        "podman,k8s",
        "conda,awsbatch",
        "gpu,googlebatch",
    ];
    for profiles in all {
        let root = root().display().to_string();
        let done = launch.strict(&["config", &root, "-profile", profiles]);
        assert!(done.status.success(), "{profiles}: {}", messages(&done));
    }
}

#[test]
fn annotation_is_the_same_with_both_parsers_and_from_the_cache() {
    let Some(launch) = Launch::new() else { return };
    let results = |name: &str| {
        let parts = [
            "annotated/first.h5ad",
            "annotated/second.h5ad",
            "model/model.safetensors",
            "summary.tsv",
        ];
        let parts = parts.map(|part| format!("{name}/{part}"));
        launch.checksums(&parts.each_ref().map(String::as_str))
    };
    let messages = launch.succeed(&["--outdir", "old"]);
    assert_eq!(tasks(&messages, "Submitted"), 3, "{messages}");
    let again = launch.succeed(&["--outdir", "again", "-resume"]);
    assert_eq!(
        (tasks(&again, "Submitted"), tasks(&again, "Cached")),
        (0, 3),
        "{again}"
    );
    assert_eq!(results("again"), results("old"));
    let root = root().display().to_string();
    let strict = launch.strict(&["run", &root, "-profile", "test", "--outdir", "strict"]);
    assert!(strict.status.success(), "{}", self::messages(&strict));
    assert_eq!(results("strict"), results("old"));
    assert_eq!(
        launch.text("old/pipeline_info/versions.txt"),
        format!(
            "SCGPT_ANNOTATE: scgpt-annotate {version}\nSCGPT_FINETUNEANNOTATION: scgpt-finetune-annotation {version}\nSCGPT_REPORT: scgpt-report {version}\n",
            version = env!("CARGO_PKG_VERSION")
        )
    );
    let summary = launch.text("old/summary.tsv");
    let rows: Vec<Vec<&str>> = summary
        .lines()
        .map(|row| row.split('\t').collect())
        .collect();
    let column = |at: usize| rows.iter().map(|row| row[at]).collect::<Vec<_>>();
    assert_eq!(column(0), ["sample", "first", "second"]);
    assert_eq!(column(1), ["cells", "60", "60"]);
    assert!(rows[1][6].contains("alpha: "), "{summary}");
}

#[test]
fn a_corpus_merged_from_samples_equals_that_of_one_run() {
    let Some(launch) = Launch::new() else { return };
    let data = root().join("assets/test");
    let vocab = data.join("vocab.json").display().to_string();
    let tokenize = ["--analysis", "tokenize", "--tokenize_obs", "batch"];
    let messages = launch.succeed(&[&tokenize[..], &["--vocab", &vocab]].concat());
    assert_eq!(tasks(&messages, "Submitted"), 3, "{messages}");
    let mut whole = Command::new(launch.programs.join("scgpt-tokenize"));
    whole.arg("--samples").arg(data.join("samples.csv"));
    whole.args(["--vocab", &vocab, "--obs", "sample,batch"]);
    is_merged(&launch, &mut whole);
    assert!(launch.path("results/genes/second.tsv").exists());
}

#[test]
fn samples_with_different_genes_share_one_vocabulary() {
    let Some(launch) = Launch::new() else { return };
    let tables = [
        ("sheet.csv", "sample,path\nfew,few.csv\nmany,many.csv\n"),
        ("few.csv", "cell,A,B,C\nc1,1,0,5\nc2,0,0,2\nc3,3,0,1\n"),
        ("many.csv", "cell,E,C,A,D\nc1,1,0,5,0\nc2,0,7,2,4\n"),
    ];
    for (name, text) in tables {
        fs::write(launch.path(name), text).expect("a table");
    }
    let sheet = launch.path("sheet.csv").display().to_string();
    let orientation = ["--tokenize_orientation", "cells-by-genes"];
    launch.succeed(
        &[
            &["--analysis", "tokenize", "--input", &sheet],
            &orientation[..],
        ]
        .concat(),
    );
    let mut whole = Command::new(launch.programs.join("scgpt-tokenize"));
    whole.args(["--samples", &sheet, "--obs", "sample"]);
    is_merged(&launch, whole.args(["--orientation", orientation[1]]));
    assert_eq!(count(&launch.text("results/corpus/vocab.json"), "\""), 16);
}

fn works(command: &mut Command) {
    let done = command.output().expect("it starts");
    assert!(done.status.success(), "{}", messages(&done));
}

/// The corpus of the pipeline must equal the one that this command writes.
fn is_merged(launch: &Launch, whole: &mut Command) {
    works(whole.arg("--output").arg(launch.path("whole")));
    let [merged, whole] = ["results/corpus", "whole"].map(|directory| {
        let parts = ["cells-00000.parquet", "vocab.json"];
        let parts = parts.map(|part| format!("{directory}/{part}"));
        launch.checksums(&parts.each_ref().map(String::as_str))
    });
    assert_eq!(merged, whole);
}

#[test]
fn a_model_pretrained_on_samples_equals_that_of_one_run_and_embeds_them() {
    let Some(launch) = Launch::new() else { return };
    let messages = launch.succeed(&["--analysis", "pretrain"]);
    assert_eq!(tasks(&messages, "Submitted"), 5, "{messages}");
    let data = root().join("assets/test");
    let corpora = ["first", "second"].map(|sample| {
        let mut command = Command::new(launch.programs.join("scgpt-tokenize"));
        let cells = data.join(sample).with_extension("h5ad");
        let corpus = launch.path(sample);
        command.arg("--input").arg(cells).arg("--output");
        works(command.arg(&corpus));
        corpus.display().to_string()
    });
    let mut whole = Command::new(launch.programs.join("scgpt-pretrain"));
    whole.args(["--input", &corpora.join(","), "--output"]);
    whole.arg(launch.path("whole")).args(SMALL);
    works(&mut whole);
    let [trained, whole] = ["results/model", "whole"].map(|directory| {
        let parts = ["model.safetensors", "vocab.json"];
        let parts = parts.map(|part| format!("{directory}/{part}"));
        launch.checksums(&parts.each_ref().map(String::as_str))
    });
    assert_eq!(trained, whole);
    for file in [
        "embedded/first.h5ad",
        "embedded/second.svg",
        "genes/first.tsv",
    ] {
        assert!(launch.path("results").join(file).exists(), "{file}");
    }
    let again = launch.succeed(&["--analysis", "pretrain", "-resume"]);
    assert_eq!(tasks(&again, "Cached"), 5, "{again}");
}

/// Model size and training options of the profile `test`.
const SMALL: [&str; 12] = [
    "--n-layers",
    "1",
    "--embedding-dim",
    "16",
    "--n-heads",
    "2",
    "--ffn-dim",
    "16",
    "--epochs",
    "2",
    "--batch-size",
    "8",
];

#[test]
fn pretraining_uses_labels_of_samples_and_rejects_gene_selection_over_samples() {
    let Some(launch) = Launch::new() else { return };
    let pretrain = ["--analysis", "pretrain"];
    let types = [
        "--pretrain_labels",
        "cell_type",
        "--pretrain_cls_weight",
        "1",
    ];
    launch.succeed(&[&pretrain[..], &types].concat());
    let record = launch.text("results/model/run.json");
    assert!(record.contains("3 cell types in `cell_type`"), "{record}");
    let (is_done, messages) = launch.run(&[&pretrain[..], &["--tokenize_n_hvg", "20"]].concat());
    assert!(
        !is_done && messages.contains("select genes with"),
        "{messages}"
    );
}

#[test]
fn batches_are_integrated_and_the_model_maps_others() {
    let Some(launch) = Launch::new() else { return };
    let data = root().join("assets/test");
    let sheet = launch.path("sheet.csv");
    let rows = format!(
        "sample,path,batch,modality\nfirst,{0}/first.h5ad,one,RNA\nfirst,{0}/first_protein.h5ad,one,Protein\n\
         second,{0}/second.h5ad,two,\n",
        data.display()
    );
    fs::write(&sheet, &rows).expect("a sheet");
    let sheet = sheet.display().to_string();
    let input = ["--input", &sheet];
    let messages = launch.succeed(&[&["--analysis", "integrate"][..], &input].concat());
    assert_eq!(tasks(&messages, "Submitted"), 1, "{messages}");
    let mut whole = Command::new(launch.programs.join("scgpt-integrate"));
    whole.args(["--samples", &sheet, "--labels", "cell_type"]);
    whole.args(SMALL);
    whole.arg("--output").arg(launch.path("whole.h5ad"));
    whole.arg("--model").arg(launch.path("whole"));
    works(whole.arg("--metrics").arg(launch.path("whole.tsv")));
    let ours = [
        "results/integrated.model/model.safetensors",
        "results/integrated.metrics.tsv",
    ];
    let theirs = ["whole/model.safetensors", "whole.tsv"];
    assert_eq!(launch.checksums(&ours), launch.checksums(&theirs));
    let model = launch.path("results/integrated.model");
    let model = model.display().to_string();
    let map = ["--analysis", "map", "--outdir", "mapped"];
    let (is_done, messages) = launch.run(&[&map[..], &input].concat());
    assert!(
        !is_done && messages.contains("`--model` is missing"),
        "{messages}"
    );
    launch.succeed(&[&map[..], &input, &["--model", &model]].concat());
    let record = launch.text("mapped/mapped.run.json");
    assert!(record.contains("\"zero_shot\": true"), "{record}");
    assert!(launch.path("mapped/mapped.h5ad").exists());
    assert!(!launch.path("mapped/mapped.model").exists());
    fs::write(&sheet, rows.replace("Protein", "RNA")).expect("a sheet");
    let (is_done, messages) = launch.run(&[&["--analysis", "integrate"][..], &input].concat());
    assert!(
        !is_done && messages.contains("sample `first` with modality `RNA` is listed twice"),
        "{messages}"
    );
}

#[test]
fn the_whole_suite_runs_from_raw_matrices_to_one_report() {
    let Some(launch) = Launch::new() else { return };
    let messages = launch.succeed(&["--analysis", "all"]);
    assert_eq!(tasks(&messages, "Submitted"), 33, "{messages}");
    let report = launch.text("results/report.html");
    for heading in [
        "Training",
        "Corpus",
        "Marker genes by mapped_label",
        "annotate first.h5ad, scGPT",
        "Integration of methods",
        "difference in attention of beta from the control",
        "Network of program program_1",
        "Perturbation response prediction",
    ] {
        assert!(report.contains(heading), "{heading}");
    }
    for table in [
        "summary",
        "predictions",
        "edges",
        "enrichment",
        "evaluation",
    ] {
        let file = launch.path(&format!("results/{table}.tsv"));
        assert!(file.exists(), "{table}");
    }
}

#[test]
fn one_model_predicts_perturbations_of_all_samples() {
    let Some(launch) = Launch::new() else { return };
    let [sheet, cells] = [
        "assets/test/perturbed.csv",
        "tools/test-data/perturbed.h5ad",
    ]
    .map(|name| root().join(name).display().to_string());
    let perturb = ["--analysis", "perturb", "--input", &sheet];
    let messages = launch.succeed(&[&perturb[..], &["--reference", &cells]].concat());
    assert_eq!(tasks(&messages, "Submitted"), 4, "{messages}");
    let predictions = launch.text("results/predictions.tsv");
    let heading = "sample\tquery_id\tperturbation\tsplit\trank\tgene\t";
    assert!(predictions.starts_with(heading), "{predictions}");
    assert_eq!(count(&predictions, "sample\t"), 1, "{predictions}");
    assert!(
        predictions.contains("simulated\tpair\tG00+G01\t"),
        "{predictions}"
    );
    let candidates = launch.text("results/candidates.tsv");
    for row in ["simulated\tcause\tG02\t1\t", "simulated\tstate\tG01\t1\t"] {
        assert!(candidates.contains(row), "{row}: {candidates}");
    }
    assert!(
        launch
            .text("results/topk_accuracy.tsv")
            .contains("\taccuracy\t")
    );
    for file in [
        "model/perturbation_splits.svg",
        "predicted/simulated.pair.h5ad",
    ] {
        assert!(launch.path("results").join(file).exists(), "{file}");
    }
    let model = launch.path("results/model").display().to_string();
    let kept = ["--model", &model, "--outdir", "again"];
    let again = launch.succeed(&[&perturb[..], &kept].concat());
    assert_eq!(tasks(&again, "Submitted"), 3, "{again}");
    let tables = |directory: &str| {
        let names = ["predictions", "candidates", "topk_accuracy"];
        let names = names.map(|name| format!("{directory}/{name}.tsv"));
        launch.checksums(&names.each_ref().map(String::as_str))
    };
    assert_eq!(tables("again"), tables("results"));
    let invalid = launch.path("invalid.csv");
    fs::write(&invalid, "query_id,column,target\nhalf,state,\n").expect("a table");
    let invalid = invalid.display().to_string();
    let queries = ["--model", &model, "--perturbation_queries", &invalid];
    let (is_done, messages) = launch.run(&[&perturb[..], &queries].concat());
    assert!(!is_done && messages.contains("go together"), "{messages}");
}

#[test]
fn networks_of_conditions_are_inferred_in_parallel_and_merged() {
    let Some(launch) = Launch::new() else { return };
    let model = root().join("tools/test-data/model").display().to_string();
    let (is_done, messages) = launch.run(&["--analysis", "grn"]);
    assert!(
        !is_done && messages.contains("`--checkpoint` is missing"),
        "{messages}"
    );
    let messages = launch.succeed(&["--analysis", "grn", "--checkpoint", &model]);
    assert_eq!(tasks(&messages, "Submitted"), 16, "{messages}");
    for (table, heading, rows) in [
        (
            "edges",
            "sample\tcondition\tregulator\ttarget\tscore\trank\n",
            [
                "first\talpha\tGENE000\t",
                "second\tdifference_gamma\tGENE000\t",
            ],
        ),
        (
            "enrichment",
            "sample\tquery\tgene_set\t",
            ["first\tprogram_0\t", "second\tdifference_beta: GENE0"],
        ),
        (
            "evaluation",
            "sample\tmethod\tregulator\t",
            [
                "first\tabsolute Pearson\tall\t",
                "second\tsecond.difference: difference_beta\tall\t",
            ],
        ),
    ] {
        let text = launch.text(&format!("results/{table}.tsv"));
        assert!(text.starts_with(heading), "{table}: {text}");
        assert_eq!(count(&text, "sample\t"), 1, "{table}");
        for row in rows {
            assert!(text.contains(row), "{table}: {row}");
        }
    }
    let mut whole = Command::new(launch.programs.join("scgpt-grn"));
    let first = root().join("assets/test/first.h5ad");
    whole.arg("attention").arg("--input").arg(first);
    whole.args(["--checkpoint", &model, "--conditions", "cell_type"]);
    whole.args(["--control", "alpha", "--max-cells", "20", "--output"]);
    works(whole.arg(launch.path("whole.h5ad")));
    let both = launch.checksums(&["whole.h5ad", "results/difference/first.difference.h5ad"]);
    assert_eq!(both[0], both[1]);
}

#[test]
fn stubs_make_every_output() {
    let Some(launch) = Launch::new() else { return };
    let root = root().display().to_string();
    let model = format!("{root}/assets/test");
    for (analysis, expected) in [
        ("annotate", 3),
        ("tokenize", 3),
        ("pretrain", 5),
        ("integrate", 1),
        ("perturb", 7),
        ("grn", 16),
        ("map", 1),
    ] {
        let run = ["run", &root, "-profile", "test", "-stub"];
        let mut options = vec!["--analysis", analysis];
        match analysis {
            "map" => options.extend(["--model", &model]),
            "grn" => options.extend(["--checkpoint", &model]),
            _ => {}
        }
        let done = launch.strict(&[&run[..], &options].concat());
        let messages = messages(&done);
        assert!(done.status.success(), "{messages}");
        assert_eq!(tasks(&messages, "Submitted"), expected, "{messages}");
    }
}

#[test]
fn the_gpu_profile_requests_a_gpu() {
    let Some(launch) = Launch::new() else { return };
    let root = root().display().to_string();
    let inspect = [
        "inspect",
        &root,
        "-profile",
        "test,gpu,docker",
        "-format",
        "json",
    ];
    let messages = self::messages(&launch.nextflow(&inspect));
    assert_eq!(count(&messages, "-cu130"), 10, "{messages}");
    let show = "[ \"$1\" = --version ] && exec $real --version\necho \"$@\" >&2\nexit 2";
    launch.replace("scgpt-finetune-annotation", show);
    let run = launch.nextflow(&["run", &root, "-profile", "test,gpu"]);
    let messages = self::messages(&run);
    assert!(messages.contains("--device cuda"), "{messages}");
    assert_eq!(count(&messages, "Execution is retried"), 0, "{messages}");
}

/// Queue, accelerator and machine that tasks request on each executor, printed by local stub tasks.
#[test]
fn executors_get_queues_and_accelerators() {
    let Some(launch) = Launch::new() else { return };
    let root = root().display().to_string();
    let config = r#"
        docker.enabled = false
        process {
            executor = 'local'
            beforeScript = { "echo '${task.queue} ${task.accelerator?.type} ${task.machineType} ${task.clusterOptions}' > requested" }
        }"#;
    fs::write(launch.path("requested.config"), config).expect("a configuration");
    for (profiles, requested) in [
        ("slurm", "normal null null --account=lab"),
        ("gpu,slurm", "gpus null null --account=lab --gres=gpu:1"),
        ("gpu,awsbatch", "gpus null null null"),
        ("gpu,googlebatch", "null nvidia-l4 g2-* null"),
        ("gpu,k8s", "null null null null"),
    ] {
        let profiles = format!("test,{profiles}");
        let profile = ["-profile", &profiles, "-w", &profiles, "-stub"];
        let queues = [
            "--queue",
            "normal",
            "--gpu_queue",
            "gpus",
            "--account",
            "lab",
        ];
        let run = ["run", &root, "-c", "requested.config"];
        let done = launch.nextflow(&[&run[..], &profile, &queues].concat());
        assert!(done.status.success(), "{}", messages(&done));
        let found = files(&launch.path(&profiles), "/requested");
        let text = |file: &PathBuf| fs::read_to_string(file).expect("the request of a task");
        let texts: Vec<String> = found.iter().map(text).collect();
        let matching = texts.iter().filter(|text| text.trim() == requested).count();
        // The report needs no accelerator.
        assert!(texts.len() == 4 && matching >= 3, "{profiles}: {texts:?}");
    }
}

#[test]
fn transient_errors_are_retried_and_invalid_input_is_not() {
    let Some(launch) = Launch::new() else { return };
    let once = "[ \"$1\" = --version ] || [ -e $0.failed ] && exec $real \"$@\"\ntouch $0.failed";
    launch.replace("scgpt-annotate", &format!("{once}\nkill -KILL $$"));
    launch.replace("scgpt-finetune-annotation", &format!("{once}\nexit 71"));
    let sheet = launch.path("sheet.csv");
    let data = root().join("assets/test");
    let rows = format!(
        "sample,path\ngood,{0}/first.h5ad\nbad,{0}/samples.csv\n",
        data.display()
    );
    fs::write(&sheet, rows).expect("a sheet");
    let sheet = sheet.display().to_string();
    let messages = launch.succeed(&["--input", &sheet, "--skip_unreadable"]);
    assert_eq!(count(&messages, "Execution is retried"), 2, "{messages}");
    assert!(
        messages.contains("terminated with an error exit status (65) -- Error is ignored"),
        "{messages}"
    );
    let summary = launch.text("results/summary.tsv");
    assert!(
        summary.contains("\ngood\t60\t") && !summary.contains("bad"),
        "{summary}"
    );
    let (is_done, messages) = launch.run(&["--input", &sheet, "-resume"]);
    assert!(!is_done && messages.contains("samples.csv"), "{messages}");
    assert_eq!(count(&messages, "Execution is retried"), 0, "{messages}");
}

#[test]
fn a_killed_pipeline_resumes_with_the_lost_tasks_only() {
    let Some(launch) = Launch::new() else { return };
    launch.replace(
        "scgpt-annotate",
        "[ \"$1\" = --version ] && exec $real --version\ntouch $0.started\nsleep 60",
    );
    let root = root().display().to_string();
    let mut engine = launch
        .command(&["run", &root, "-profile", "test"])
        .stdout(Stdio::null())
        .spawn()
        .expect("Java starts");
    // The engine starts the next task before it records that one is finished.
    let trained = || {
        let log = fs::read_to_string(launch.path(".nextflow.log")).unwrap_or_default();
        log.lines()
            .any(|line| line.contains("Task completed") && line.contains("FINETUNEANNOTATION"))
    };
    let start = Instant::now();
    while !(launch.path("bin/scgpt-annotate.started").exists() && trained()) {
        let end = engine.try_wait().expect("a process of ours");
        let waited = start.elapsed();
        assert!(
            end.is_none() && waited < Duration::from_secs(300),
            "{end:?} after {waited:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(2));
    engine.kill().expect("a running engine");
    engine.wait().expect("its end");
    fs::remove_file(launch.path("bin/scgpt-annotate")).expect("the script");
    let messages = launch.succeed(&["-resume"]);
    assert_eq!(
        (tasks(&messages, "Submitted"), tasks(&messages, "Cached")),
        (2, 1),
        "{messages}"
    );
}

#[test]
fn modules_emit_all_declared_outputs() {
    let Some(launch) = Launch::new() else { return };
    let [script, config] = ["modules.nf", "modules.config"]
        .map(|name| root().join("tests/engines/nextflow").join(name))
        .map(|path| path.display().to_string());
    let done = launch.nextflow(&["run", &script, "-c", &config]);
    let messages = messages(&done);
    assert!(done.status.success(), "{messages}");
    for emitted in [
        "model: test_metrics.json",
        "model: model.test_cells.h5ad",
        "cells: cells.h5ad",
        "cells: cells.svg",
        "cells: cells.run.json",
        "model: model.json",
        "model: model.run.json",
        "converted: converted\n",
        "converted: converted.run.json",
        "generated: generated.h5ad",
        "generated: generated.metrics.json",
        "generated: generated.run.json",
        "integrated: integrated.h5ad",
        "integrated: integrated.model",
        "integrated: integrated.metrics.tsv",
        "integrated: integrated.svg",
        "integrated: integrated.run.json",
        "mapped: mapped.h5ad",
        "mapped: mapped.tsv",
        "mapped: mapped.svg",
        "mapped: mapped.run.json",
        "index: index\n",
        "index: index.run.json",
        "queried: queried.h5ad",
        "queried: queried.tsv",
        "queried: queried.svg",
        "queried: queried.metrics.tsv",
        "queried: queried.run.json",
        "shifts: shifts.tsv",
        "shifts: shifts.run.json",
        "report: report.html",
        "report: report_mqc.json",
        "report: report.run.json",
        "programs: programs.program_scores.tsv",
        "programs: programs.svg",
        "programs: programs.scored_cells.h5ad",
        "programs: programs.similar_genes.tsv",
        "programs: programs.family_test.tsv",
    ] {
        assert!(
            messages.contains(&format!("emitted {emitted}")),
            "{emitted}: {messages}"
        );
    }
    for (process, program) in [
        ("EMBED", "embed"),
        ("CHECKPOINTCONVERT", "checkpoint"),
        ("GENERATE", "generate"),
        ("INTEGRATE", "integrate"),
    ] {
        let version = format!(
            "version SCGPT_{process}: scgpt-{program} {}",
            env!("CARGO_PKG_VERSION")
        );
        assert!(messages.contains(&version), "{version}: {messages}");
    }
}
