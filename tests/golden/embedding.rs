//! `embedding`: the collator with its recorded random choices, vocabularies without special tokens, and the embeddings.
//! Tests without recorded choices run the program, in `cli/embed.rs`.

use crate::support::{Stored, assert_close, data};
use scgpt_tools::cells::{self, Cells};
use scgpt_tools::checkpoint::{Checkpoint, Heads as StoredHeads};
use scgpt_tools::counts::Counts;
use scgpt_tools::model::{Genes, Heads, Inputs, Model, Noise, OutputTokens, Store, weights};
use scgpt_tools::predict::{self, Pretrained};
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::binning::{self, Ties};
use scgpt_tools::tokens::{LongCells, Options, Tokenizer, Tokens};
use std::fs;
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};

const PAD: i64 = 200;
const PAD_VALUE: f32 = -2.0;
const BINS: usize = 51;
/// Cells in a minibatch of the recorded collator.
const MINIBATCH: usize = 8;

/// A golden file, read as `scgpt-embed` reads it.
struct Fixture {
    counts: Counts,
    tokenizer: Tokenizer,
    stored: Stored,
}

fn fixture(file: &str, stored: &str, options: &Options) -> Fixture {
    let model = Pretrained::load(&data("embedding/checkpoint"), Device::Cpu).unwrap();
    let cells = Cells::open(
        &data(file),
        &cells::Options::default(),
        Some(&model.vocabulary),
    )
    .unwrap();
    let (genes, columns) = cells.known_genes(&model.vocabulary).unwrap();
    Fixture {
        counts: cells.read(0..cells.n_cells(), &columns).unwrap(),
        tokenizer: model.tokenizer(options, &genes, Seed(0)),
        stored: Stored::read(stored),
    }
}

impl Fixture {
    /// The tokens of every cell, by the tokenizer alone.
    fn tokens(&self) -> Vec<Tokens> {
        let cells = (0u64..).zip(self.counts.rows());
        cells
            .map(|(cell, (genes, values))| self.tokenizer.tokens(cell, genes, values))
            .collect()
    }

    /// The full token sequence of every cell, with its values binned by `bin`.
    fn sequences(&self, mut bin: impl FnMut(usize, &mut [f32])) -> Vec<Tokens> {
        let sequence = |(cell, (genes, values)): (usize, (&[u32], &[f32]))| {
            let mut values = values.to_vec();
            bin(cell, &mut values);
            self.tokenizer.sequence(genes, &values)
        };
        self.counts.rows().enumerate().map(sequence).collect()
    }

    /// Fails unless the recorded minibatches are these tokens, padded. `values` and `genes` name the recorded tensors.
    fn assert_collated(&self, tokens: &[Tokens], values: &str, genes: &str) {
        for (i, minibatch) in tokens.chunks(MINIBATCH).enumerate() {
            let expected = self.stored.rows(&values.replace('#', &i.to_string()));
            let ids = self.stored.whole_rows(&genes.replace('#', &i.to_string()));
            assert_eq!(minibatch.len(), expected.len());
            let longest = minibatch.iter().map(Tokens::len).max().unwrap();
            for (cell, tokens) in minibatch.iter().enumerate() {
                let mut padded = tokens.clone();
                padded.pad(longest, PAD, PAD_VALUE);
                assert_eq!(
                    padded.genes, ids[cell],
                    "genes of cell {cell} of minibatch {i}"
                );
                assert_eq!(
                    padded.values, expected[cell],
                    "values of cell {cell} of minibatch {i}"
                );
            }
        }
    }

    fn assert_vectors(&self, tokens: &[Tokens]) {
        let raw = vectors(tokens);
        assert_close(
            "raw embeddings",
            &raw,
            self.stored.get("cell_embeddings_raw"),
            1e-5,
        );
        let normalized = &raw / raw.norm_scalaropt_dim(2.0, [-1], true);
        assert_close(
            "embeddings of length 1",
            &normalized,
            self.stored.get("cell_embeddings_l2norm"),
            1e-5,
        );
    }
}

/// The `<cls>` embeddings of some cells, before they are scaled to length 1.
fn vectors(tokens: &[Tokens]) -> Tensor {
    let checkpoint = Checkpoint::open(&data("embedding/checkpoint")).unwrap();
    let StoredHeads {
        batch_norm: plain_norm,
        ..
    } = checkpoint.heads;
    let genes: Genes = predict::genes(&checkpoint);
    let mut store = Store::new(Seed(0), Device::Cpu);
    let model = Model::new(
        &mut store,
        &checkpoint.architecture,
        genes,
        Heads {
            plain_norm,
            ..Heads::default()
        },
    );
    weights::load(&store, &checkpoint.state)
        .require_all()
        .unwrap();
    let inputs = Inputs::new(
        tokens
            .iter()
            .map(|cell| (&cell.genes[..], &cell.values[..])),
        Device::Cpu,
    );
    no_grad(|| {
        model
            .encode(&inputs, OutputTokens::First, &mut Noise::off())
            .cells
            .to_kind(Kind::Float)
    })
}

const CONTINUOUS: &str = "embedding/cells_continuous.h5ad";
const COUNTS: &str = "embedding/cells_counts.h5ad";

#[test]
fn embedding_known_columns() {
    let model = Pretrained::load(&data("embedding/checkpoint"), Device::Cpu).unwrap();
    let cells = Cells::open(
        &data(CONTINUOUS),
        &cells::Options::default(),
        Some(&model.vocabulary),
    )
    .unwrap();
    let (genes, _) = cells.known_genes(&model.vocabulary).unwrap();
    let stored = Stored::read("embedding/continuous_outputs.safetensors");
    let kept: Vec<String> = stored
        .positions("kept_columns")
        .into_iter()
        .map(|at| cells.genes[at].clone())
        .collect();
    assert_eq!(genes, kept);
    let ids: Vec<usize> = genes
        .iter()
        .map(|gene| model.vocabulary.id(gene).unwrap() as usize)
        .collect();
    assert_eq!(ids, stored.positions("kept_gene_ids"));
}

#[test]
fn embedding_collated_minibatches() {
    let fixture = fixture(
        CONTINUOUS,
        "embedding/continuous_outputs.safetensors",
        &Options::default(),
    );
    fixture.assert_collated(&fixture.tokens(), "batch#.expr", "batch#.gene");
    fixture.assert_vectors(&fixture.tokens());
}

#[test]
fn embedding_one_sided_counts() {
    let options = Options {
        ties: Ties::OneSided,
        ..Options::default()
    };
    let fixture = fixture(COUNTS, "embedding/counts_outputs.safetensors", &options);
    fixture.assert_collated(&fixture.tokens(), "onesided.batch#.expr", "batch#.gene");
}

#[test]
fn embedding_both_sided_counts() {
    let fixture = fixture(
        COUNTS,
        "embedding/counts_outputs.safetensors",
        &Options::default(),
    );
    let uniforms = Vec::<Vec<f64>>::try_from(fixture.stored.get("uniforms")).unwrap();
    let recorded = fixture.stored.positions("n_uniforms");
    let sequences = fixture.sequences(|cell, values| {
        assert_eq!(
            values.iter().filter(|value| **value != 0.0).count(),
            recorded[cell]
        );
        let mut draws = uniforms[cell].iter();
        binning::bin_with(
            values,
            BINS,
            Some(&mut || *draws.next().expect("a uniform for every value")),
        );
    });
    fixture.assert_collated(&sequences, "batch#.expr", "batch#.gene");
    fixture.assert_vectors(&sequences);
}

#[test]
fn embedding_sub_sampled() {
    let options = Options {
        max_length: 20,
        ..Options::default()
    };
    let fixture = fixture(
        CONTINUOUS,
        "embedding/subsampled_outputs.safetensors",
        &options,
    );
    let kept = fixture.stored.whole_rows("kept_prefix_of_permutation");
    let expressed = fixture.stored.positions("n_expressed");
    let sequences = fixture.sequences(|_, values| binning::bin_with(values, BINS, None));
    let cut = |(cell, sequence): (usize, &Tokens)| {
        assert_eq!(sequence.len(), expressed[cell] + 1);
        if sequence.len() <= 20 {
            return sequence.clone();
        }
        // <cls>, then the recorded genes, counted without <cls>.
        let genes = kept[cell]
            .iter()
            .map(|&at| usize::try_from(at).unwrap() + 1);
        sequence.select(&[0].into_iter().chain(genes).collect::<Vec<_>>())
    };
    let tokens: Vec<Tokens> = sequences.iter().enumerate().map(cut).collect();
    fixture.assert_collated(&tokens, "batch#.expr", "batch#.gene");
    fixture.assert_vectors(&tokens);
    // Our own sample is another one with the same properties: as long, with <cls> first, drawn from the same tokens.
    for (ours, sequence) in fixture.tokens().iter().zip(&sequences) {
        assert_eq!((ours.len(), ours.genes[0]), (sequence.len().min(20), 201));
        let pairs = |tokens: &Tokens| {
            tokens
                .genes
                .iter()
                .copied()
                .zip(tokens.values.clone())
                .collect::<Vec<_>>()
        };
        assert!(
            pairs(ours)
                .iter()
                .all(|pair| pairs(sequence).contains(pair))
        );
    }
}

#[test]
fn embedding_truncated() {
    let options = Options {
        max_length: 20,
        long_cells: LongCells::Truncate,
        ..Options::default()
    };
    let fixture = fixture(
        CONTINUOUS,
        "embedding/truncated_outputs.safetensors",
        &options,
    );
    fixture.assert_collated(&fixture.tokens()[..MINIBATCH], "batch#.expr", "batch#.gene");
}

#[test]
fn embedding_vocabulary_without_specials() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["args.json", "model.safetensors"] {
        fs::copy(
            data("embedding/checkpoint").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    fs::copy(
        data("embedding/vocab_without_specials.json"),
        folder.path().join("vocab.json"),
    )
    .unwrap();
    let opened = Checkpoint::open(folder.path()).unwrap();
    assert!(
        opened
            .notes
            .iter()
            .any(|note| note.contains("<pad> <cls> <eoc>")),
        "{:?}",
        opened.notes
    );
    let whole = Checkpoint::open(&data("embedding/checkpoint")).unwrap();
    assert_eq!(
        opened.vocabulary.tokens().collect::<Vec<_>>(),
        whole.vocabulary.tokens().collect::<Vec<_>>()
    );
    let embed = |folder: &Path| {
        let model = Pretrained::load(folder, Device::Cpu).unwrap();
        let cells = Cells::open(
            &data(CONTINUOUS),
            &cells::Options::default(),
            Some(&model.vocabulary),
        )
        .unwrap();
        let counts = cells
            .read(0..4, &cells.columns(&cells.genes).unwrap())
            .unwrap();
        model.embed(&counts, &cells.genes, &Options::default())
    };
    assert_eq!(embed(folder.path()), embed(&data("embedding/checkpoint")));
}
