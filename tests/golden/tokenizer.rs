//! `tokenizer`: token sequences with and without zeros, sampled and padded; masks.

use crate::support::Stored;
use scgpt_tools::random::Seed;
use scgpt_tools::tokens::{Options, Settings, Tokenizer, Tokens, Values, masking};
use tch::Kind;

const CLS: i64 = 201;
const PAD: i64 = 200;

struct Golden(Stored);

impl Golden {
    fn floats(&self, name: &str) -> Vec<Vec<f32>> {
        Vec::try_from(self.0.get(name).to_kind(Kind::Float)).expect("rows")
    }

    fn integers(&self, name: &str) -> Vec<Vec<i64>> {
        Vec::try_from(self.0.get(name)).expect("rows")
    }

    fn vector(&self, name: &str) -> Vec<i64> {
        Vec::try_from(self.0.get(name)).expect("a vector")
    }

    fn tokenizer(&self, include_zero_genes: bool, max_length: usize, cls: bool) -> Tokenizer {
        let options = Options {
            include_zero_genes,
            max_length,
            ..Options::default()
        };
        let settings = Settings {
            options,
            cls: cls.then_some(CLS),
            cls_value: 0.0,
            values: Values::Raw,
        };
        Tokenizer::new(settings, self.vector("gene_ids"), Seed(0))
    }

    /// The sequence of a row before it is sampled down.
    fn sequence(&self, tokenizer: &Tokenizer, row: &[f32]) -> Tokens {
        let (columns, values): (Vec<u32>, Vec<f32>) = (0u32..)
            .zip(row.iter().copied())
            .filter(|(_, v)| *v != 0.0)
            .unzip();
        tokenizer.sequence(&columns, &values)
    }
}

/// Checks a setting: whole sequences as they are, sampled ones at the positions that were recorded.
fn check(setting: &str, include_zero_genes: bool, max_length: usize, cls: bool) {
    let golden = Golden(Stored::read("tokenizer/tokenizer.safetensors"));
    let tokenizer = golden.tokenizer(include_zero_genes, max_length, cls);
    let (genes, values) = (
        golden.integers(&format!("{setting}.genes")),
        golden.floats(&format!("{setting}.values")),
    );
    let truncated = format!("{setting}.truncated_rows");
    let sampled = golden.0.names().any(|name| name == truncated).then(|| {
        (
            golden.vector(&truncated),
            golden.integers(&format!("{setting}.sampled_positions_in_full_sequence")),
        )
    });
    for (i, row) in golden.floats("binned").iter().enumerate() {
        let mut tokens = golden.sequence(&tokenizer, row);
        if let Some((rows, positions)) = &sampled
            && let Some(at) = rows.iter().position(|&row| row == i as i64)
        {
            assert!(
                tokens.len() > max_length,
                "row {i} was sampled in the original implementation"
            );
            let first = usize::from(cls);
            let kept = (0..first).chain(positions[at].iter().map(|&p| p as usize));
            tokens = tokens.select(&kept.collect::<Vec<_>>());
        }
        tokens.pad(genes[i].len(), PAD, -2.0);
        assert_eq!(
            (&tokens.genes, &tokens.values),
            (&genes[i], &values[i]),
            "row {i} of {setting}"
        );
    }
}

#[test]
fn tokenizer_settings() {
    check("nozero_max100", false, 100, true);
    check("nozero_max10", false, 10, true);
    check("nozero_nocls_max8", false, 8, false);
    check("zero_max31", true, 31, true);
    check("zero_max12", true, 12, true);
    check("mod_nozero_max100", false, 100, true);
}

#[test]
fn sampled_sequences_keep_cls_and_the_length() {
    let golden = Golden(Stored::read("tokenizer/tokenizer.safetensors"));
    let tokenizer = golden.tokenizer(false, 10, true);
    for (i, row) in golden.floats("binned").iter().enumerate() {
        let (columns, values): (Vec<u32>, Vec<f32>) = (0u32..)
            .zip(row.iter().copied())
            .filter(|(_, v)| *v != 0.0)
            .unzip();
        let (whole, tokens) = (
            golden.sequence(&tokenizer, row),
            tokenizer.tokens(i as u64, &columns, &values),
        );
        assert_eq!(tokens.len(), whole.len().min(10));
        assert_eq!((tokens.genes[0], tokens.values[0]), (CLS, 0.0));
        let mut seen = tokens.genes.clone();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), tokens.len(), "no gene is drawn twice");
        assert!(tokens.genes.iter().all(|gene| whole.genes.contains(gene)));
        assert_eq!(
            tokens,
            tokenizer.tokens(i as u64, &columns, &values),
            "the same cell gives the same sample"
        );
    }
}

#[test]
fn masks_have_the_size_and_the_effect_of_the_original_implementation() {
    let golden = Golden(Stored::read("tokenizer/tokenizer.safetensors"));
    for (setting, source, ratio) in [
        ("mask_nozero_0.15", "nozero_max100.values", 0.15),
        ("mask_nozero_0.4", "nozero_max100.values", 0.4),
        ("mask_zero_0.4", "zero_max31.values", 0.4),
    ] {
        let (count, positions) = (
            golden.vector(&format!("{setting}.n_masked")),
            golden.integers(&format!("{setting}.masked_positions")),
        );
        for (i, row) in golden.floats(source).into_iter().enumerate() {
            let eligible: Vec<usize> = (0..row.len()).filter(|&at| row[at] != -2.0).collect();
            let chosen =
                masking::choose(&eligible, ratio, &mut Seed(0).stream("mask", &[i as u64]));
            assert_eq!(chosen.len() as i64, count[i], "row {i} of {setting}");
            assert!(
                chosen.windows(2).all(|pair| pair[0] < pair[1])
                    && chosen.iter().all(|at| eligible.contains(at))
            );
            let recorded: Vec<usize> = positions[i][..count[i] as usize]
                .iter()
                .map(|&at| at as usize)
                .collect();
            let mut masked = row.clone();
            masking::apply(&mut masked, &recorded, -1.0);
            assert_eq!(
                masked,
                golden.floats(&format!("{setting}.masked"))[i],
                "row {i} of {setting}"
            );
        }
    }
}
