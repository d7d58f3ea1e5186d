//! Wrong inputs: each ends with the documented exit code and a message that names the problem and what to do.

use crate::support::cells::{self, Simulated};
use crate::support::data;
use crate::support::needs::skip;
use crate::support::programs::{fail, from_to, json, path, program, succeed, tokenize};
use crate::support::trained::{SIZE, TRAINED, finetune};
use scgpt_tools::counts::Counts;
use scgpt_tools::formats::Column;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::{TempDir, tempdir};

/// Wrong usage; wrong input; reading or writing failed.
const USAGE: i32 = 2;
const INPUT: i32 = 65;
const READ_WRITE: i32 = 74;

#[track_caller]
fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in:\n{message}");
    }
}

/// Runs every program that reads cells on a file; all must fail alike and leave no output.
fn rejected_by_all(folder: &TempDir, input: &Path, parts: &[&str]) {
    rejected(
        folder,
        input,
        &[finetune, embed, annotate, |input, output| {
            tokenize(input, output)
        }],
        parts,
    );
}

fn rejected(
    folder: &TempDir,
    input: &Path,
    programs: &[fn(&Path, &Path) -> assert_cmd::Command],
    parts: &[&str],
) {
    let output = folder.path().join("output");
    for program in programs {
        let mut command = program(input, &output);
        let message = fail(&mut command, INPUT);
        assert_contains(&message, parts);
        assert_contains(&message, &[input.to_str().unwrap()]);
        assert!(!output.exists());
    }
}

fn embed(input: &Path, output: &Path) -> assert_cmd::Command {
    let mut command = from_to("scgpt-embed", input, output);
    command
        .arg("--checkpoint")
        .arg(data("embedding/checkpoint"));
    command
}

fn annotate(input: &Path, output: &Path) -> assert_cmd::Command {
    let mut command = from_to("scgpt-annotate", input, output);
    command.arg("--model").arg(&TRAINED.model);
    command
}

#[test]
fn files_other_than_hdf5_are_rejected() {
    let folder = tempdir().unwrap();
    for (name, content) in [
        ("text.h5ad", &b"hello"[..]),
        ("empty.h5ad", b""),
        ("table.h5ad", b"gene,cell1\nGENE001,4\n"),
    ] {
        let input = folder.path().join(name);
        fs::write(&input, content).unwrap();
        // `scgpt-tokenize` also reads tables of text.
        rejected(
            &folder,
            &input,
            &[finetune, embed, annotate],
            &["not an HDF5 file", "an AnnData file (.h5ad) was expected"],
        );
    }
}

#[test]
fn a_truncated_file_is_rejected_wherever_it_ends() {
    let folder = tempdir().unwrap();
    let whole = fs::read(&TRAINED.cells).unwrap();
    let input = folder.path().join("cut.h5ad");
    for tenths in [1, 5, 9] {
        fs::write(&input, &whole[..whole.len() * tenths / 10]).unwrap();
        rejected_by_all(&folder, &input, &["truncated", "copy or download it again"]);
    }
}

#[test]
fn a_missing_column_gives_the_existing_ones() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("output");
    let mut by_labels = from_to("scgpt-finetune-annotation", &TRAINED.cells, &output);
    by_labels.args(["--labels", "celltype"]);
    let mut by_batch = finetune(&TRAINED.cells, &output);
    by_batch.args(["--batch", "celltype"]);
    let mut by_truth = annotate(&TRAINED.cells, &output);
    by_truth.args(["--true-labels", "celltype"]);
    let mut by_obs = tokenize(&TRAINED.cells, &output);
    by_obs.args(["--obs", "celltype"]);
    for command in [&mut by_labels, &mut by_batch, &mut by_truth, &mut by_obs] {
        assert_contains(
            &fail(command, INPUT),
            &[
                "no column `celltype`",
                "`cell_type`",
                "`batch`",
                "cells.h5ad",
            ],
        );
    }
}

#[test]
fn one_class_is_not_enough() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("cells.h5ad");
    let simulated = Simulated {
        cells: 20,
        ..Simulated::SMALL
    };
    for (label, found) in [(Some("alpha"), "only `alpha`"), (None, "no label at all")] {
        let column = Column::from_labels(&[label; 20]);
        cells::write(
            &input,
            &simulated.counts(),
            &simulated.gene_names(),
            [("cell_type", column)],
        );
        let message = fail(&mut finetune(&input, &folder.path().join("output")), INPUT);
        assert_contains(&message, &["`cell_type`", found, "at least two cell types"]);
    }
}

#[test]
fn batch_correction_needs_a_batch_for_every_labeled_cell() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("cells.h5ad");
    let simulated = Simulated {
        cells: 20,
        ..Simulated::SMALL
    };
    let (types, batches): (Vec<_>, Vec<_>) = (0..20)
        .map(|cell| (Simulated::type_of(cell), Simulated::batch_of(cell)))
        .map(|(name, batch)| {
            (
                Some(name),
                (batch != Simulated::batch_of(0)).then_some(batch),
            )
        })
        .unzip();
    let obs = [
        ("cell_type", Column::from_labels(&types)),
        ("batch", Column::from_labels(&batches)),
    ];
    cells::write(&input, &simulated.counts(), &simulated.gene_names(), obs);
    let mut command = finetune(&input, &folder.path().join("output"));
    let message = fail(
        command.args(["--batch", "batch", "--dar-weight", "1"]),
        INPUT,
    );
    assert_contains(
        &message,
        &["12 labeled cells", "column `batch`", "`--dar-weight`"],
    );
}

#[test]
fn no_matching_gene_gives_names_of_file_and_vocabulary() {
    let folder = tempdir().unwrap();
    let (input, output) = (
        folder.path().join("cells.h5ad"),
        folder.path().join("output"),
    );
    let names: Vec<String> = (0..60).map(|gene| format!("ENSG{gene:011}")).collect();
    let labels: Vec<_> = (0..20).map(|cell| Some(Simulated::type_of(cell))).collect();
    let counts = Simulated {
        cells: 20,
        ..Simulated::SMALL
    }
    .counts();
    cells::write(
        &input,
        &counts,
        &names,
        [("cell_type", Column::from_labels(&labels))],
    );
    let mut from_checkpoint = finetune(&input, &output);
    from_checkpoint
        .arg("--checkpoint")
        .arg(data("annotation/checkpoint"));
    for mut command in [
        from_checkpoint,
        embed(&input, &output),
        annotate(&input, &output),
    ] {
        let message = fail(&mut command, INPUT);
        assert_contains(
            &message,
            &[
                "none of the 60 genes",
                "`ENSG00000000000`",
                "`GENE000`",
                "--gene-column",
            ],
        );
    }
}

#[test]
fn negative_values_are_rejected_and_other_matrices_listed() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("scaled.h5ad");
    let simulated = Simulated {
        cells: 20,
        ..Simulated::SMALL
    };
    let mut counts = simulated.counts();
    counts.values.iter_mut().for_each(|value| *value -= 1.5);
    let labels: Vec<_> = (0..20).map(|cell| Some(Simulated::type_of(cell))).collect();
    cells::write(
        &input,
        &counts,
        &simulated.gene_names(),
        [("cell_type", Column::from_labels(&labels))],
    );
    let parts = [
        "matrix `X`",
        "values from -0.5",
        "a model reads counts or log-normalized values",
        "give one with counts",
    ];
    rejected_by_all(&folder, &input, &parts);
    // Another matrix of the file that may be suitable is named.
    let layered = hdf5::File::append(&input).unwrap();
    layered
        .group("layers")
        .unwrap()
        .link_hard("/X", "scaled")
        .unwrap();
    drop(layered);
    rejected_by_all(
        &folder,
        &input,
        &[
            "values from -0.5",
            "the file also has `layers/scaled`",
            "--matrix",
        ],
    );
}

#[test]
fn a_file_without_cells_is_rejected() {
    let folder = tempdir().unwrap();
    let input = folder.path().join("none.h5ad");
    let labels = Column::from_labels::<&str>(&[]);
    cells::write(
        &input,
        &Counts::empty(60),
        &Simulated::SMALL.gene_names(),
        [("cell_type", labels)],
    );
    rejected_by_all(&folder, &input, &["holds no cells", "give a file with"]);
}

#[test]
fn settings_with_repeated_or_unknown_genes_are_rejected() {
    let folder = tempdir().unwrap();
    let (model, output) = (folder.path().join("model"), folder.path().join("output"));
    fs::create_dir(&model).unwrap();
    for name in ["vocab.json", "model.safetensors"] {
        fs::copy(TRAINED.model.join(name), model.join(name)).unwrap();
    }
    for (gene, problem) in [
        ("GENE001", "`GENE001` is named twice"),
        ("NONE", "`NONE` has no embedding"),
        ("<pad>", "`<pad>` has no embedding"),
    ] {
        let mut arguments = json(TRAINED.model.join("args.json"));
        arguments["scgpt_tools"]["genes"][0] = gene.into();
        fs::write(model.join("args.json"), arguments.to_string()).unwrap();
        for (program, option) in [
            ("scgpt-embed", "--checkpoint"),
            ("scgpt-annotate", "--model"),
        ] {
            let mut command = from_to(program, &TRAINED.cells, &output);
            let message = fail(command.arg(option).arg(&model), INPUT);
            assert_contains(&message, &["args.json", problem]);
            assert!(!output.exists());
        }
    }
}

#[test]
fn a_checkpoint_with_code_is_rejected_without_running_it() {
    let folder = tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    fs::create_dir(&checkpoint).unwrap();
    for name in ["args.json", "vocab.json"] {
        fs::copy(
            data("embedding/checkpoint").join(name),
            checkpoint.join(name),
        )
        .unwrap();
    }
    fs::copy(
        data("checkpoint/os_system.pt"),
        checkpoint.join("best_model.pt"),
    )
    .unwrap();
    let output = folder.path().join("output");
    let mut commands = [
        from_to("scgpt-embed", &data("embedding/cells_counts.h5ad"), &output),
        finetune(&TRAINED.cells, &output),
        program("scgpt-checkpoint"),
        program("scgpt-checkpoint"),
    ];
    commands[0].arg("--checkpoint").arg(&checkpoint);
    commands[1].arg("--checkpoint").arg(&checkpoint);
    commands[2].arg("inspect").arg(&checkpoint);
    commands[3].arg("convert").arg(&checkpoint).arg(&output);
    for command in &mut commands {
        let message = fail(command.current_dir(folder.path()), INPUT);
        assert_contains(
            &message,
            &[
                "best_model.pt",
                "`posix.system`",
                "rejected without executing anything",
            ],
        );
        assert!(!output.exists());
    }
    // The command in the file is `touch scgpt-tools-test-was-run`.
    assert!(!folder.path().join("scgpt-tools-test-was-run").exists());
}

#[test]
fn problems_of_arguments_are_reported_together() {
    let folder = tempdir().unwrap();
    let missing = folder.path().join("missing.h5ad");
    let mut command = finetune(&missing, &folder.path().join("output"));
    let message = fail(
        command.args([
            "--epochs",
            "0",
            "--freeze",
            "everything",
            "--threads",
            "many",
        ]),
        USAGE,
    );
    let parts = [
        "`--input`",
        "missing.h5ad",
        "`--epochs`: found `0`",
        "`--freeze`",
        "encoders",
        "`--threads`",
        "--help",
    ];
    assert_contains(&message, &parts);
    let mut command = finetune(&TRAINED.cells, &folder.path().join("output"));
    let message = fail(
        command.args([
            "--embedding-dim",
            "30",
            "--n-heads",
            "4",
            "--test-groups",
            "a",
            "--dar-weight",
            "1",
        ]),
        USAGE,
    );
    assert_contains(
        &message,
        &[
            "`--embedding-dim` 30 is not a multiple of `--n-heads` 4",
            "`--test-groups` needs `--batch`",
            "`--dar-weight` needs",
        ],
    );
}

#[test]
fn unknown_keys_of_a_parameter_file_are_rejected_with_the_nearest_name() {
    let folder = tempdir().unwrap();
    let params = folder.path().join("params.json");
    fs::write(&params, r#"{"epoch": 3, "labels": "cell_type"}"#).unwrap();
    let mut command = from_to(
        "scgpt-finetune-annotation",
        &TRAINED.cells,
        &folder.path().join("output"),
    );
    let message = fail(command.arg("--params").arg(&params), USAGE);
    assert_contains(
        &message,
        &[
            "unknown option `epoch`",
            "params.json",
            "did you mean `epochs`?",
        ],
    );
}

#[test]
fn the_input_is_never_the_output() {
    let folder = tempdir().unwrap();
    let (input, link) = (
        folder.path().join("cells.h5ad"),
        folder.path().join("link.h5ad"),
    );
    fs::copy(&TRAINED.cells, &input).unwrap();
    std::os::unix::fs::symlink(&input, &link).unwrap();
    for output in [&input, &link] {
        for mut command in [embed(&input, output), annotate(&input, output)] {
            assert_contains(
                &fail(&mut command, USAGE),
                &[
                    "`--output`",
                    "inputs are never changed",
                    "name another output",
                ],
            );
        }
    }
    assert!(fs::read(&input).unwrap() == fs::read(&TRAINED.cells).unwrap());
}

#[test]
fn an_existing_directory_is_not_overwritten() {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "mine").unwrap();
    for mut command in [
        finetune(&TRAINED.cells, folder.path()),
        tokenize(&TRAINED.cells, folder.path()),
    ] {
        let message = fail(&mut command, READ_WRITE);
        assert_contains(&message, &["not empty", "name another output"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn an_output_in_a_missing_directory_is_rejected_before_work() {
    let folder = tempdir().unwrap();
    let output = folder.path().join("missing").join("output");
    for mut command in [
        finetune(&TRAINED.cells, &output),
        embed(&TRAINED.cells, &output),
        annotate(&TRAINED.cells, &output),
        tokenize(&TRAINED.cells, &output),
    ] {
        assert_contains(
            &fail(&mut command, USAGE),
            &["`--output`", "could not write into directory", "missing"],
        );
    }
}

/// Runs a program with a file system of its own on `directory`, of which nothing is left afterwards. Standard output lists what
/// the program left there. `None` where this system gives no user a file system of their own.
fn on_file_system(
    options: &str,
    folder: &Path,
    program: &str,
    arguments: &[&str],
) -> Option<Output> {
    const SCRIPT: &str = "mount -t tmpfs -o $0 tmpfs $1 || exit 200; cd $1; shift; \"$@\"; code=$?; ls -A1R; exit $code";
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, options])
        .arg(folder);
    let Ok(done) = command.arg(path(program)).args(arguments).output() else {
        skip("no `unshare`");
        return None;
    };
    let text = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(200) || text.starts_with("unshare:") {
        skip(&format!("no file system of one's own: {text}"));
        return None;
    }
    Some(done)
}

fn texts(done: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&done.stdout), text(&done.stderr))
}

#[test]
fn a_read_only_directory_is_rejected_before_work() {
    let folder = tempdir().unwrap();
    let cells = TRAINED.cells.to_str().unwrap();
    let arguments = [
        "--input",
        cells,
        "--labels",
        "cell_type",
        "--output",
        "model",
    ];
    let Some(done) = on_file_system("ro", folder.path(), "scgpt-finetune-annotation", &arguments)
    else {
        return;
    };
    let (_, message) = texts(&done);
    assert_eq!(done.status.code(), Some(USAGE), "{message}");
    assert_contains(
        &message,
        &[
            "`--output`: could not write into directory `.`",
            "Read-only file system",
        ],
    );
}

/// Options of a file system with space for almost all of a file.
fn room_for_almost(path: &Path) -> String {
    const PAGE: u64 = 4096;
    let bytes = fs::metadata(path).expect("a file").len() / PAGE * PAGE;
    assert!(bytes > PAGE);
    format!("size={bytes}")
}

/// Runs a program without disk space, and with almost enough for `file`, a part of its output `name`.
fn fails_on_full_disks(program: &str, arguments: &[&str], file: &Path, name: &str) {
    let folder = tempdir().unwrap();
    for options in ["size=4096".to_owned(), room_for_almost(file)] {
        let Some(done) = on_file_system(&options, folder.path(), program, arguments) else {
            return;
        };
        let (left, message) = texts(&done);
        let what = format!("{program}, {options}:\n{message}\nleft:\n{left}");
        assert_eq!(done.status.code(), Some(READ_WRITE), "{what}");
        assert_contains(
            &message,
            &["could not write", name, "No space left on device"],
        );
        let stem = name.trim_end_matches(".h5ad");
        // Only the record with the error, and the state of a run that can be resumed.
        let may_stay = [format!("{stem}.run.json"), format!("{stem}.partial")];
        let top = left.lines().skip(1).take_while(|line| !line.is_empty());
        for found in top {
            assert!(may_stay.iter().any(|name| name == found), "{what}");
        }
    }
}

#[test]
fn a_full_disk_is_reported_and_leaves_no_incomplete_output() {
    let (checkpoint, cells) = (
        data("embedding/checkpoint"),
        data("embedding/cells_counts.h5ad"),
    );
    let [checkpoint_text, cells_text] = [&checkpoint, &cells].map(|path| path.to_str().unwrap());
    let (trained, model) = (&TRAINED.cells, TRAINED.model.to_str().unwrap());
    let trained_text = trained.to_str().unwrap();

    let embed = [
        "--input",
        cells_text,
        "--checkpoint",
        checkpoint_text,
        "--output",
        "cells.h5ad",
    ];
    fails_on_full_disks("scgpt-embed", &embed, &cells, "cells.h5ad");
    let annotate = [
        "--input",
        trained_text,
        "--model",
        model,
        "--output",
        "cells.h5ad",
    ];
    fails_on_full_disks("scgpt-annotate", &annotate, trained, "cells.h5ad");
    let convert = ["convert", checkpoint_text, "model"];
    fails_on_full_disks(
        "scgpt-checkpoint",
        &convert,
        &checkpoint.join("model.safetensors"),
        "model",
    );
    let finetune = [
        "--input",
        trained_text,
        "--labels",
        "cell_type",
        "--output",
        "model",
        "--epochs",
        "1",
    ];
    let finetune = [&finetune[..], &SIZE].concat();
    fails_on_full_disks(
        "scgpt-finetune-annotation",
        &finetune,
        &TRAINED.model.join("model.safetensors"),
        "model",
    );
    let folder = tempdir().unwrap();
    let corpus = folder.path().join("corpus");
    succeed(&mut tokenize(trained, &corpus));
    let tokenize = ["--input", trained_text, "--output", "corpus"];
    let shard = corpus.join("cells-00000.parquet");
    fails_on_full_disks("scgpt-tokenize", &tokenize, &shard, "corpus");
}
