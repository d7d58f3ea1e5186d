//! Infers from their names whether the rows of a table are cells or genes.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Orientation of a text table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// Inferred from the names of rows and columns.
    #[default]
    Auto,
    /// One row per cell.
    CellsByGenes,
    /// One row per gene.
    GenesByCells,
}

/// Fraction of names that must look like symbols; a few genes have odd ones.
const MOST: f64 = 0.9;

/// Whether the columns are genes.
pub fn is_by_cell(
    columns: &[String],
    rows: &[String],
    is_gene: Option<&dyn Fn(&str) -> bool>,
) -> Result<bool, String> {
    if let Some(is_gene) = is_gene {
        let [known, others] = [columns, rows].map(|names| fraction(names, is_gene));
        if known != others {
            return Ok(known > others);
        }
    }
    let signs: [fn(&[String]) -> bool; 2] = [are_ensembl, are_symbols];
    let by_cell = signs.iter().find_map(|sign| {
        let by_cell = sign(columns);
        (by_cell != sign(rows)).then_some(by_cell)
    });
    by_cell.ok_or_else(|| {
        let first = |names: &[String]| match names.first() {
            Some(name) => format!("`{name}`"),
            None => "nothing".to_owned(),
        };
        format!(
            "the orientation cannot be inferred from the names of its rows (first {}) and columns (first {}): \
             give `--orientation cells-by-genes` or `--orientation genes-by-cells`",
            first(rows),
            first(columns)
        )
    })
}

/// The fraction of names for which something holds.
fn fraction(names: &[String], holds: impl Fn(&str) -> bool) -> f64 {
    let held = names.iter().filter(|name| holds(name)).count();
    held as f64 / names.len().max(1) as f64
}

fn are_ensembl(names: &[String]) -> bool {
    fraction(names, is_ensembl) > 0.5
}

/// `ENSG00000141510`, `ENSMUSG00000059552.14`.
fn is_ensembl(name: &str) -> bool {
    let (id, version) = name.split_once('.').unwrap_or((name, "0"));
    let letters = id.trim_end_matches(|letter: char| letter.is_ascii_digit());
    letters.starts_with("ENS")
        && letters.ends_with('G')
        && letters.bytes().all(|letter| letter.is_ascii_uppercase())
        && id.len() == letters.len() + 11
        && are_digits(version)
}

fn are_symbols(names: &[String]) -> bool {
    let distinct: HashSet<&String> = names.iter().collect();
    distinct.len() == names.len() && fraction(names, is_symbol) >= MOST && !are_numbered(names)
}

/// `TP53`, `Gapdh`, `HLA-DRB1`, `1700001C02Rik`, but not `AAACCTGAGCATCATC-1`.
fn is_symbol(name: &str) -> bool {
    let allowed = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-' || letter == b'.';
    let start = name.trim_start_matches(|letter: char| letter.is_ascii_digit());
    (2..=20).contains(&name.len())
        && start.starts_with(|letter: char| letter.is_ascii_uppercase())
        && name.bytes().all(allowed)
        && !is_barcode(name)
}

fn is_barcode(name: &str) -> bool {
    let (bases, suffix) = name.split_once(['-', '.']).unwrap_or((name, "1"));
    bases.len() >= 6 && bases.bytes().all(|base| b"ACGTN".contains(&base)) && are_digits(suffix)
}

/// `Cell1`, `Cell2`, ...: a number after letters that are the same in all names.
fn are_numbered(names: &[String]) -> bool {
    let letters = |name: &String| {
        name.trim_end_matches(|letter: char| letter.is_ascii_digit())
            .len()
    };
    let Some(first) = names.first() else {
        return false;
    };
    let prefix = &first[..letters(first)];
    let same = |name: &String| name.len() > prefix.len() && name[..letters(name)] == *prefix;
    names.len() > 1 && names.iter().all(same)
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: [&[&str]; 4] = [
        &["AAACCTGAGCATCATC-1", "AAACCTGAGCATGGCA-1"],
        &["Cell1", "Cell2", "Cell10"],
        &["CELL_000001", "CELL_000002"],
        &["sample one", "sample two"],
    ];
    const GENES: [&[&str]; 3] = [
        &[
            "TP53",
            "MYC",
            "HLA-DRB1",
            "MT-CO1",
            "RP11-34P13.7",
            "A1BG",
            "CD3E",
            "C1orf112",
            "7SK",
            "Y_RNA",
        ],
        &["Gapdh", "1700001C02Rik", "Actb"],
        &["ENSG00000141510.18", "ENSMUSG00000059552", "ERCC-00002"],
    ];

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn names_of_genes_decide_the_orientation() {
        for cells in CELLS.map(names) {
            for genes in GENES.map(names) {
                assert_eq!(
                    is_by_cell(&genes, &cells, None),
                    Ok(true),
                    "{cells:?} {genes:?}"
                );
                assert_eq!(
                    is_by_cell(&cells, &genes, None),
                    Ok(false),
                    "{cells:?} {genes:?}"
                );
            }
        }
    }

    #[test]
    fn a_vocabulary_knows_better() {
        let (columns, rows) = (names(&["TP53", "MYC"]), names(&["alpha", "beta"]));
        let greek = |name: &str| name == "beta";
        assert_eq!(is_by_cell(&columns, &rows, Some(&greek)), Ok(false));
        assert_eq!(is_by_cell(&columns, &rows, Some(&|_| false)), Ok(true));
    }

    #[test]
    fn what_cannot_be_inferred_is_requested() {
        for (columns, rows) in [
            (["c1", "c2"], ["r1", "r2"]),
            (["TP53", "MYC"], ["ACTB", "CD4"]),
        ] {
            let problem = is_by_cell(&names(&columns), &names(&rows), None).unwrap_err();
            assert!(problem.contains("--orientation"), "{problem}");
        }
        assert!(is_by_cell(&[], &[], None).is_err());
    }
}
