//! Files of the original implementation, files that Python wrote, and damaged ones.

use std::path::{Path, PathBuf};

use super::*;
use crate::vocabulary::Vocabulary;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

mod goldens {
    use super::*;

    const WITH_BOTH: [&str; 10] = [
        "annotation",
        "annotation_category",
        "annotation_plain_bn",
        "embedding",
        "grn",
        "integration",
        "multiomic",
        "perturbation",
        "perturbation_variant",
        "pretrain",
    ];
    const VARIANTS: [&str; 6] = [
        "layouts/B_flash_direct",
        "layouts/C_flash_wrapped",
        "layouts/D_data_parallel",
        "multiomic_variants/batch_only",
        "multiomic_variants/mod_only",
        "multiomic_variants/neither",
    ];

    fn directories() -> impl Iterator<Item = PathBuf> {
        WITH_BOTH
            .iter()
            .map(|name| data(name).join("checkpoint"))
            .chain(VARIANTS.iter().map(|name| data(name)))
    }

    #[test]
    fn torch_files_equal_safetensors_bit_for_bit() {
        for name in WITH_BOTH {
            let directory = data(name).join("checkpoint");
            let torch = torch_file::read(&directory.join("best_model.pt")).unwrap();
            let safe = safetensors::read(&directory.join("model.safetensors")).unwrap();
            assert!(!torch.state.is_empty());
            assert_eq!(torch.state, safe, "{name}");
        }
    }

    #[test]
    fn layouts_give_the_same_tensors() {
        let plain = Checkpoint::open(&data("annotation/checkpoint")).unwrap();
        let layout = |attention, data_parallel| Layout {
            attention,
            data_parallel,
        };
        assert_eq!(plain.layout, layout(Attention::A, false));
        let expected = [
            ("layouts/B_flash_direct", layout(Attention::B, false)),
            ("layouts/C_flash_wrapped", layout(Attention::C, false)),
            ("layouts/D_data_parallel", layout(Attention::B, true)),
        ];
        for (name, layout) in expected {
            let checkpoint = Checkpoint::open(&data(name)).unwrap();
            assert_eq!(checkpoint.layout, layout, "{name}");
            assert_eq!(checkpoint.state, plain.state, "{name}");
        }
    }

    #[test]
    fn every_tensor_has_its_place_in_the_table() {
        for directory in directories() {
            let report = inspect::inspect(&directory).unwrap();
            assert_eq!(
                report.problems,
                Vec::<String>::new(),
                "{}",
                directory.display()
            );
            assert_eq!(
                report.notes,
                Vec::<String>::new(),
                "{}",
                directory.display()
            );
            assert!(!report.uses.is_empty());
        }
    }

    #[test]
    fn heads_and_classes_are_inferred() {
        use heads::{Classifier, DomainNorm, ModelClass};
        let find = |name: &str| Heads::find(&Checkpoint::open(&data(name)).unwrap().state);
        let annotation = find("annotation/checkpoint");
        assert_eq!(
            annotation.classes,
            Some(Classifier {
                outputs: 5,
                layers: 3
            })
        );
        assert_eq!(
            (annotation.model_class(), annotation.batch_norm),
            (ModelClass::Transformer, false)
        );
        assert!(find("annotation_plain_bn/checkpoint").batch_norm);
        assert_eq!(find("annotation_category/checkpoint").value_rows, Some(53));
        let integration = find("integration/checkpoint");
        assert_eq!(
            integration.domain_norm,
            Some(DomainNorm {
                domains: 3,
                affine: false
            })
        );
        assert_eq!(
            (integration.batch_labels, integration.zero_probability),
            (Some(3), true)
        );
        assert_eq!(integration.discriminator.map(|head| head.outputs), Some(3));
        assert_eq!(find("multiomic/checkpoint").modalities, Some(5));
        assert_eq!(
            find("multiomic_variants/batch_only").model_class(),
            ModelClass::MultiOmic
        );
        let perturbation = find("perturbation_variant/checkpoint");
        assert_eq!(
            (perturbation.model_class(), perturbation.affine_expression),
            (ModelClass::Generator, true)
        );
        assert_eq!(
            find("pretrain/checkpoint").model_class(),
            ModelClass::Pretraining
        );
        assert_eq!(
            find("embedding/checkpoint").mvc.map(|mvc| mvc.style),
            Some(heads::MvcStyle::InnerProduct)
        );
    }

    #[test]
    fn conversions_there_and_back_keep_every_bit() {
        use convert::{Target, convert};
        let place = tempfile::tempdir().unwrap();
        for (position, directory) in directories().enumerate() {
            let out = |name: &str| place.path().join(format!("{position}-{name}"));
            convert(&directory, &out("reference"), Target::Pytorch, None).unwrap();
            convert(&out("reference"), &out("safe"), Target::Safetensors, None).unwrap();
            let original = Checkpoint::open(&directory).unwrap();
            for name in ["reference", "safe"] {
                let converted = Checkpoint::open(&out(name)).unwrap();
                assert_eq!(converted.state, original.state);
                assert_eq!(converted.vocabulary, original.vocabulary);
                assert_eq!(converted.arguments, original.arguments);
            }
            let reference = Checkpoint::open(&out("reference")).unwrap();
            assert_eq!(reference.layout.attention, Attention::B);
            assert_eq!(
                out("safe").join("vocab_mod.json").exists(),
                directory.join("vocab_mod.json").exists()
            );
        }
    }

    #[test]
    fn writing_twice_gives_the_same_bytes() {
        let checkpoint = Checkpoint::open(&data("integration/checkpoint")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (name, format) in [
            ("pt", weights::Format::Torch),
            ("safetensors", weights::Format::Safetensors),
        ] {
            let write = |file: &str| {
                let path = directory.path().join(format!("{file}.{name}"));
                match format {
                    weights::Format::Torch => torch_file::write(&path, &checkpoint.state).unwrap(),
                    weights::Format::Safetensors => {
                        safetensors::write(&path, &checkpoint.state).unwrap()
                    }
                }
                std::fs::read(path).unwrap()
            };
            assert_eq!(write("first"), write("second"));
        }
    }
}

/// Files made by `tests/data/checkpoint/make.py`, with torch itself where torch can write them.
mod python_files {
    use super::*;

    fn read(name: &str) -> Result<torch_file::Contents, torch_file::Error> {
        torch_file::read(&data("checkpoint").join(name))
    }

    /// The error and its source on one line.
    fn message(name: &str) -> String {
        let error = read(name).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    }

    fn count_up(n: u8) -> Vec<f32> {
        (0..n).map(f32::from).collect()
    }

    #[test]
    fn strides_offsets_types_and_shared_storages_are_honored() {
        let state = read("views.pt").unwrap().state;
        let tensor = |name: &str| state.get(name).unwrap_or_else(|| panic!("{name}"));
        let values = |name: &str| tensor(name).to_f32();
        assert_eq!(values("plain"), count_up(12));
        assert_eq!(tensor("plain").shape(), [3, 4]);
        assert_eq!(
            (tensor("transposed").shape(), values("transposed")),
            (
                &[4, 3][..],
                vec![0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]
            )
        );
        assert_eq!(
            (tensor("column").shape(), values("column")),
            (&[3][..], vec![1., 5., 9.])
        );
        assert_eq!(values("row"), [4., 5., 6., 7.]);
        assert_eq!(values("tail"), [6., 7., 10., 11.]);
        assert_eq!(values("expanded"), [7., 7., 7.]);
        let permuted = (0_u8..24)
            .map(|i| f32::from(i / 12 + 2 * (i / 4 % 3) + 6 * (i % 4)))
            .collect::<Vec<_>>();
        assert_eq!(
            (tensor("permuted").shape(), values("permuted")),
            (&[2, 3, 4][..], permuted)
        );
        assert_eq!(
            (tensor("half").dtype(), values("half")),
            (Dtype::F16, vec![1.5, -2.0])
        );
        assert_eq!(
            (tensor("bfloat").dtype(), values("bfloat")),
            (Dtype::Bf16, vec![1.5, -2.0, 3.0])
        );
        assert_eq!(
            (tensor("double").dtype(), values("double")),
            (Dtype::F64, vec![0.25])
        );
        assert_eq!(
            (
                tensor("scalar").dtype(),
                tensor("scalar").shape(),
                values("scalar")
            ),
            (Dtype::I64, &[][..], vec![7.0])
        );
        assert_eq!(
            (tensor("int32").dtype(), values("int32")),
            (Dtype::I32, vec![-5.0])
        );
        assert_eq!(
            (tensor("bool").dtype(), values("bool")),
            (Dtype::Bool, vec![1.0, 0.0])
        );
        assert_eq!(
            (tensor("empty").shape(), tensor("empty").numel()),
            (&[0, 3][..], 0)
        );
        assert_eq!(values("parameter"), [1.0, 2.0]);
    }

    #[test]
    fn a_module_saved_by_torch_with_its_metadata_is_read() {
        let contents = read("module.pt").unwrap();
        assert_eq!(contents.unwrapped, None);
        assert_eq!(
            contents.state.keys().collect::<Vec<_>>(),
            [
                "0.weight",
                "0.bias",
                "1.weight",
                "1.bias",
                "1.running_mean",
                "1.running_var",
                "1.num_batches_tracked"
            ]
        );
        assert_eq!(contents.state["0.weight"].shape(), [2, 3]);
    }

    #[test]
    fn newer_protocols_are_read() {
        for name in ["protocol_3.pt", "protocol_4.pt", "protocol_5.pt"] {
            assert_eq!(
                read(name).unwrap().state["weight"].to_f32(),
                count_up(6),
                "{name}"
            );
        }
    }

    #[test]
    fn one_dictionary_around_the_state_dict_is_taken_off() {
        let contents = read("nested.pt").unwrap();
        assert_eq!(contents.unwrapped.as_deref(), Some("model_state_dict"));
        assert_eq!(contents.state["weight"].to_f32(), count_up(6));
        assert!(message("two_models.pt").contains("several (`model`, `ema`)"));
        assert!(message("no_tensors.pt").contains("no state dict"));
        assert!(message("mixed.pt").contains("`epoch` is not a tensor but an integer"));
    }

    #[test]
    fn code_is_rejected_and_not_run() {
        let marker = Path::new("scgpt-tools-test-was-run");
        assert!(message("os_system.pt").contains("`posix.system` is not allowed in a state dict"));
        assert!(message("eval.pt").contains("`__builtin__.eval`"));
        assert!(message("numpy.pt").contains("`numpy"));
        assert!(message("whole_module.pt").contains("`torch.nn.modules"));
        assert!(!marker.exists());
    }

    #[test]
    fn crafted_views_are_rejected() {
        assert!(message("outside.pt").contains("leave its storage"));
        assert!(message("offset_outside.pt").contains("leave its storage"));
        assert!(message("negative_stride.pt").contains("not described as torch writes it"));
        assert!(
            message("short_storage.pt").contains("should hold 100 float32 values but has 24 bytes")
        );
        assert!(message("huge_shape.pt").contains("16 times"));
        assert!(message("overflowing_shape.pt").contains("16 times"));
        assert!(message("many_dimensions.pt").contains("not described"));
        assert!(message("repeated_name.pt").contains("`weight` appears more than once"));
    }

    #[test]
    fn other_containers_are_explained() {
        assert!(message("legacy.pt").contains("before 1.6"));
        assert!(message("compressed.pt").contains("is compressed, which torch never does"));
        assert!(message("big_endian.pt").contains("big-endian"));
        assert!(message("no_storage.pt").contains("`best_model/data/0`"));
        assert!(message("no_pickle.pt").contains("`data.pkl`"));
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text.pt");
        std::fs::write(&text, "hello").unwrap();
        assert!(matches!(
            torch_file::read(&text),
            Err(torch_file::Error::NotZip)
        ));
    }

    #[test]
    fn a_pickle_that_would_fill_the_memory_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("long.pt");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
        zip.start_file("long/data.pkl", zip::write::SimpleFileOptions::default())
            .unwrap();
        std::io::Write::write_all(&mut zip, &vec![b'}'; (4 << 20) + 1]).unwrap();
        zip.finish().unwrap();
        assert!(matches!(
            torch_file::read(&path),
            Err(torch_file::Error::LongPickle(_))
        ));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = std::fs::read(data("checkpoint/nested.pt")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in 0..whole.len() {
            std::fs::write(file.path(), &whole[..length]).unwrap();
            assert!(
                torch_file::read(file.path()).is_err(),
                "{length} of {} bytes",
                whole.len()
            );
        }
    }
}

mod damage {
    use super::*;
    use crate::fuzz_mutations::{each, each_file};
    use std::io::Read;

    fn with_flips(original: &[u8], flips: &[(usize, u8)]) -> tempfile::NamedTempFile {
        let mut bytes = original.to_vec();
        for &(at, mask) in flips {
            let at = at % bytes.len();
            bytes[at] ^= mask;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn damaged_torch_files_give_tensors_or_an_error() {
        for name in ["nested.pt", "views.pt", "protocol_5.pt"] {
            let whole = std::fs::read(data("checkpoint").join(name)).unwrap();
            each_file(&whole, |path| drop(torch_file::read(path)));
        }
    }

    #[test]
    fn damaged_pickles_give_objects_or_an_error() {
        for name in ["nested.pt", "module.pt", "protocol_5.pt", "numpy.pt"] {
            let file = std::fs::File::open(data("checkpoint").join(name)).unwrap();
            let mut archive = zip::ZipArchive::new(file).unwrap();
            let is_pickle = |name: &str| name.ends_with("/data.pkl");
            let at = (0..archive.len())
                .find(|&at| is_pickle(&archive.by_index_raw(at).unwrap().name().unwrap()));
            let mut bytes = Vec::new();
            let mut member = archive.by_index(at.unwrap()).unwrap();
            member.read_to_end(&mut bytes).unwrap();
            each(&bytes, |bytes| drop(pickle::load(bytes)));
        }
    }

    #[test]
    fn damaged_safetensors_files_give_tensors_or_an_error() {
        let whole = std::fs::read(data("annotation/checkpoint/model.safetensors")).unwrap();
        each_file(&whole[..8 + 400], |path| drop(safetensors::read(path)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("small.safetensors");
        let contents = torch_file::read(&data("checkpoint/nested.pt")).unwrap();
        safetensors::write(&path, &contents.state).unwrap();
        each_file(&std::fs::read(&path).unwrap(), |path| {
            drop(safetensors::read(path))
        });
    }

    #[test]
    fn a_flipped_weight_is_noticed_by_its_checksum() {
        let whole = std::fs::read(data("annotation/checkpoint/best_model.pt")).unwrap();
        // The first storage starts near byte 5,632 and holds 25,984 bytes.
        let file = with_flips(&whole, &[(10_000, 1)]);
        assert!(torch_file::read(file.path()).is_err());
    }

    #[test]
    fn safetensors_files_that_declare_a_wrong_length_are_rejected() {
        let whole = std::fs::read(data("annotation/checkpoint/model.safetensors")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 7, 8, 100, whole.len() - 1] {
            std::fs::write(file.path(), &whole[..length]).unwrap();
            assert!(safetensors::read(file.path()).is_err(), "{length}");
        }
        std::fs::write(file.path(), [&u64::MAX.to_le_bytes()[..], b"{}"].concat()).unwrap();
        assert!(matches!(
            safetensors::read(file.path()),
            Err(safetensors::Error::Header { .. })
        ));
    }
}

mod directories {
    use super::*;
    use serde_json::json;

    /// A copy of the annotation checkpoint that may be spoiled.
    fn copy() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in ["args.json", "vocab.json", "model.safetensors"] {
            std::fs::copy(
                data("annotation/checkpoint").join(name),
                directory.path().join(name),
            )
            .unwrap();
        }
        directory
    }

    fn message(directory: &tempfile::TempDir) -> String {
        let error = anyhow::Error::from(Checkpoint::open(directory.path()).unwrap_err());
        format!("{error:#}")
    }

    fn rewrite(directory: &tempfile::TempDir, change: impl FnOnce(&mut StateDict)) {
        let path = directory.path().join("model.safetensors");
        let mut state = safetensors::read(&path).unwrap();
        change(&mut state);
        safetensors::write(&path, &state).unwrap();
    }

    #[test]
    fn missing_and_contradictory_files_are_explained() {
        let directory = copy();
        std::fs::remove_file(directory.path().join("args.json")).unwrap();
        assert!(message(&directory).contains("args.json` does not exist; fine-tuning"));
        std::fs::write(
            directory.path().join("args.json"),
            r#"{"nheads": 4, "embsize": 64}"#,
        )
        .unwrap();
        assert!(message(&directory).contains("`embsize` is 64 in `args.json` but 32"));
        std::fs::write(directory.path().join("args.json"), "[]").unwrap();
        assert!(message(&directory).contains("not a JSON object"));

        let directory = copy();
        let genes = (0..300).map(|i| format!("G{i}"));
        std::fs::write(
            directory.path().join("vocab.json"),
            Vocabulary::from_genes(genes).unwrap().to_json(),
        )
        .unwrap();
        assert!(message(&directory).contains("303 tokens in `vocab.json` but weights for 203"));

        let directory = copy();
        rewrite(&directory, |state| {
            drop(state.shift_remove("transformer_encoder.layers.1.norm2.bias"))
        });
        assert!(
            message(&directory)
                .contains("`transformer_encoder.layers.1.norm2.bias` [32] is missing")
        );
        let report = inspect::inspect(directory.path()).unwrap();
        assert_eq!(
            report.problems,
            ["`transformer_encoder.layers.1.norm2.bias` [32] is missing"]
        );
        assert_eq!(report.uses, []);
    }

    #[test]
    fn weights_are_found_by_preference() {
        let directory = copy();
        let path = |name: &str| directory.path().join(name);
        std::fs::copy(data("grn/checkpoint/best_model.pt"), path("best_model.pt")).unwrap();
        assert!(
            Checkpoint::open(directory.path())
                .unwrap()
                .weights_file
                .ends_with("model.safetensors")
        );
        std::fs::remove_file(path("best_model.pt")).unwrap();
        std::fs::rename(path("model.safetensors"), path("model_e3.safetensors")).unwrap();
        assert!(
            Checkpoint::open(directory.path())
                .unwrap()
                .weights_file
                .ends_with("model_e3.safetensors")
        );
        std::fs::copy(data("grn/checkpoint/best_model.pt"), path("model.pt")).unwrap();
        assert!(
            message(&directory)
                .contains("several weights files (`model.pt`, `model_e3.safetensors`)")
        );
        std::fs::remove_file(path("model.pt")).unwrap();
        std::fs::remove_file(path("model_e3.safetensors")).unwrap();
        assert!(message(&directory).contains("has no weights"));
    }

    #[test]
    fn names_are_looked_up_in_the_model_directories() {
        let root = data("");
        let models = std::env::join_paths([data("checkpoint"), data("layouts")]).unwrap();
        let resolve = |name: &str| directory::resolve(Path::new(name), Some(&models));
        assert_eq!(
            resolve("B_flash_direct").unwrap(),
            data("layouts/B_flash_direct")
        );
        let unknown = resolve("scgpt_human").unwrap_err().to_string();
        assert!(
            unknown.contains("layouts` has `B_flash_direct`, `C_flash_wrapped`, `D_data_parallel`"),
            "{unknown}"
        );
        assert!(unknown.contains("checkpoint` has no models"), "{unknown}");
        assert!(matches!(resolve("../layouts"), Err(Error::NoDirectory(_))));
        assert_eq!(directory::resolve(&root, None).unwrap(), root);
        let unset = directory::resolve(Path::new("scgpt_human"), None)
            .unwrap_err()
            .to_string();
        assert!(unset.contains("the variable is not set"));
    }

    #[test]
    fn missing_special_tokens_are_appended_and_noted() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["args.json", "best_model.pt"] {
            std::fs::copy(
                data("embedding/checkpoint").join(name),
                directory.path().join(name),
            )
            .unwrap();
        }
        std::fs::copy(
            data("embedding/vocab_without_specials.json"),
            directory.path().join("vocab.json"),
        )
        .unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        assert_eq!(
            checkpoint.vocabulary,
            Checkpoint::open(&data("embedding/checkpoint"))
                .unwrap()
                .vocabulary
        );
        assert_eq!(
            checkpoint.notes,
            ["special tokens not in `vocab.json` were appended: <pad> <cls> <eoc>"]
        );
    }

    #[test]
    fn inspection_reports_classes_norms_and_broken_values() {
        let directory = copy();
        let path = directory.path().join("args.json");
        let mut arguments: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let uses = || inspect::inspect(directory.path()).unwrap().uses;
        assert!(uses().contains(&inspect::Use::AnnotationWithoutNames));
        let statement = crate::file_format::MODEL.statement();
        arguments["scgpt_tools"] = serde_json::to_value(statement).unwrap();
        arguments["scgpt_tools"]["classes"] = json!(["a", "b", "c", "d", "e"]);
        std::fs::write(&path, arguments.to_string()).unwrap();
        assert!(uses().contains(&inspect::Use::Annotation));
        rewrite(&directory, |state| {
            state.insert(
                "bn.weight".into(),
                Tensor::from_f32(vec![2], &[1.0, f32::NAN]).unwrap(),
            );
        });
        let report = inspect::inspect(directory.path()).unwrap();
        assert_eq!(
            report.problems,
            ["`bn.weight` holds NaN or infinite values"]
        );
        assert_eq!(report.notes, ["`bn.weight` [2] is not part of the model"]);
        assert!(
            report.to_string().contains("classes: 5, 3 dense layers"),
            "{report}"
        );
    }

    #[test]
    fn writing_never_replaces_and_leaves_no_partial_output() {
        let checkpoint = Checkpoint::open(&data("annotation/checkpoint")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let write = |out: &Path, files: &[(String, Vec<u8>)]| {
            let contents = write::Contents {
                state: &checkpoint.state,
                architecture: &checkpoint.architecture,
                arguments: &checkpoint.arguments,
                vocabulary: &checkpoint.vocabulary,
                files,
            };
            write::write(out, contents, write::Form::OWN)
        };
        let out = directory.path().join("deep/out");
        write(&out, &[("metrics.json".into(), b"{}".to_vec())]).unwrap();
        assert_eq!(std::fs::read(out.join("metrics.json")).unwrap(), b"{}");
        assert!(matches!(write(&out, &[]), Err(write::Error::Exists(_))));
        for name in ["args.json", "../x", "a/b", "", ".."] {
            let rejected = write(&directory.path().join("new"), &[(name.to_owned(), vec![])]);
            assert!(matches!(rejected, Err(write::Error::FileName(_))), "{name}");
        }
        assert!(write(&out.join("metrics.json/out"), &[]).is_err());
        assert_eq!(
            std::fs::read_dir(directory.path().join("deep"))
                .unwrap()
                .count(),
            1
        );
    }
}
