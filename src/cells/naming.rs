//! Mapping of gene names to a vocabulary: by name, user table, alias, or Ensembl id without version.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::vocabulary::Vocabulary;

/// Options of gene mapping.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[group(skip)]
pub struct Options {
    /// Table of gene names to replace: the name in the files and the name to use, one pair per line, separated by a tab or comma,
    /// no header needed. Takes precedence over all other rules.
    #[arg(long, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"))]
    pub gene_map: Option<PathBuf>,
    /// Table of gene aliases: an alias or previous symbol and the approved symbol, one pair per line, separated by a tab or
    /// comma. Used for names that the vocabulary does not contain.
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    #[schemars(extend("x-format" = "tsv", "x-direction" = "input"))]
    pub aliases: Option<PathBuf>,
    /// Handling of several columns of the same gene.
    #[arg(long, hide_short_help = true)]
    pub duplicates: Duplicates,
    /// Minimum fraction of matching genes, of those of the file or of the vocabulary, whichever are fewer. Below it the run ends
    /// with an error, because identifier type or species are probably wrong.
    #[arg(long, hide_short_help = true)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_match: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gene_map: None,
            aliases: None,
            duplicates: Duplicates::Sum,
            min_match: 0.2,
        }
    }
}

/// Handling of several columns of the same gene.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Duplicates {
    /// Sum their values.
    #[default]
    Sum,
    /// Use the first column.
    First,
    /// End with an error.
    Error,
}

/// Mapping status of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    Name,
    Map,
    Alias,
    Version,
    /// Not in the vocabulary.
    Unmatched,
    /// The same gene as an earlier column.
    Duplicate,
}

impl How {
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Map => "map",
            Self::Alias => "alias",
            Self::Version => "version removed",
            Self::Unmatched => "unmatched",
            Self::Duplicate => "duplicate",
        }
    }
}

/// The rules of gene mapping.
#[derive(Debug, Default)]
pub struct Naming {
    map: HashMap<String, String>,
    aliases: HashMap<String, String>,
    duplicates: Duplicates,
    min_match: f64,
}

/// The genes of a table mapped to a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognized {
    /// Vocabulary id of every column; none for those that are dropped.
    pub ids: Vec<Option<u32>>,
    pub how: Vec<How>,
}

impl Recognized {
    /// Genes of the vocabulary that the table has.
    pub fn n_matched(&self) -> usize {
        let is_first = |how: &&How| !matches!(how, How::Unmatched | How::Duplicate);
        self.how.iter().filter(is_first).count()
    }
}

impl Naming {
    /// Reads the tables given in the options.
    pub fn read(options: &Options) -> Result<Self, Error> {
        Ok(Self {
            map: options
                .gene_map
                .as_deref()
                .map_or(Ok(HashMap::new()), read_pairs)?,
            aliases: options
                .aliases
                .as_deref()
                .map_or(Ok(HashMap::new()), read_pairs)?,
            duplicates: options.duplicates,
            min_match: options.min_match,
        })
    }

    /// The name under which a gene enters a vocabulary that is made from the data.
    pub fn new_name<'a>(&'a self, gene: &'a str) -> &'a str {
        let given = self.map.get(gene).or_else(|| self.aliases.get(gene));
        match (given, without_version(gene)) {
            (Some(name), _) => name,
            (None, Some(id)) => self.new_name(id),
            (None, None) => gene,
        }
    }

    /// Looks up the genes of a table.
    pub fn recognize(
        &self,
        path: &Path,
        genes: &[String],
        vocabulary: &Vocabulary,
    ) -> Result<Recognized, Error> {
        let matches = vocabulary.match_genes(genes).ids;
        let found = genes.iter().zip(matches);
        let (mut ids, mut how): (Vec<Option<u32>>, Vec<How>) = found
            .map(|(gene, id)| self.find(gene, id, vocabulary))
            .unzip();
        let mut first: HashMap<u32, usize> = HashMap::new();
        for at in 0..ids.len() {
            let Some(id) = ids[at] else { continue };
            let earlier = *first.entry(id).or_insert(at);
            if earlier == at {
                continue;
            }
            how[at] = How::Duplicate;
            match self.duplicates {
                Duplicates::Sum => {}
                Duplicates::First => ids[at] = None,
                Duplicates::Error => {
                    return Err(Error::Duplicate {
                        path: path.to_owned(),
                        gene: vocabulary.token(id).unwrap_or_default().to_owned(),
                        columns: [genes[earlier].clone(), genes[at].clone()],
                    });
                }
            }
        }
        let recognized = Recognized { ids, how };
        self.require_match(path, genes, vocabulary, &recognized)?;
        Ok(recognized)
    }

    fn find(&self, gene: &str, id: Option<u32>, vocabulary: &Vocabulary) -> (Option<u32>, How) {
        let named = |name: &String| vocabulary.gene_id(name);
        if let Some(name) = self.map.get(gene) {
            return match named(name) {
                Some(id) => (Some(id), How::Map),
                None => (None, How::Unmatched),
            };
        }
        if id.is_some() {
            return (id, How::Name);
        }
        if let Some(id) = self.aliases.get(gene).and_then(named) {
            return (Some(id), How::Alias);
        }
        match without_version(gene).and_then(|id| vocabulary.gene_id(self.new_name(id))) {
            Some(id) => (Some(id), How::Version),
            None => (None, How::Unmatched),
        }
    }

    fn require_match(
        &self,
        path: &Path,
        genes: &[String],
        vocabulary: &Vocabulary,
        recognized: &Recognized,
    ) -> Result<(), Error> {
        let fewer = genes.len().min(vocabulary.genes().count());
        let matched = recognized.n_matched();
        if matched > 0 && matched as f64 >= self.min_match * fewer as f64 {
            return Ok(());
        }
        let unmatched = genes.iter().zip(&recognized.how);
        let found = unmatched.filter(|(_, how)| **how == How::Unmatched);
        let upper = genes.iter().map(|gene| gene.to_uppercase());
        let in_upper_case = upper
            .filter(|gene| vocabulary.gene_id(gene).is_some())
            .count();
        Err(Error::FewGenes {
            path: path.to_owned(),
            matched,
            n_genes: genes.len(),
            found: found.map(|(gene, _)| gene.clone()).collect(),
            known: vocabulary.genes().take(5).map(str::to_owned).collect(),
            remedy: if in_upper_case > 2 * matched {
                format!(
                    "{in_upper_case} would match in upper case: mouse genes or lower-case symbols; give `--gene-map`"
                )
            } else {
                "give the column of gene symbols with `--gene-column`, give `--gene-map`, or lower `--min-match`".into()
            },
        })
    }
}

/// An Ensembl gene id without its version: `ENSG00000141510.18` is `ENSG00000141510`.
fn without_version(gene: &str) -> Option<&str> {
    let (id, version) = gene.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = id
        .strip_prefix("ENS")?
        .trim_start_matches(|c: char| c.is_ascii_uppercase());
    (digits(number) && number.len() >= 6 && digits(version)).then_some(id)
}

fn read_pairs(path: &Path) -> Result<HashMap<String, String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Table {
        path: path.to_owned(),
        problem: format!("could not be read: {source}"),
    })?;
    let mut pairs = HashMap::new();
    for (line, at) in text.lines().zip(1..) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once('\t').or_else(|| line.split_once(','));
        let Some((from, to)) = pair else {
            return Err(Error::Table {
                path: path.to_owned(),
                problem: format!(
                    "line {at}: expected two names separated by a tab or a comma, found `{line}`"
                ),
            });
        };
        let unquoted = |name: &str| name.trim().trim_matches('"').to_owned();
        pairs.entry(unquoted(from)).or_insert_with(|| unquoted(to));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz_mutations;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn damaged_tables_give_names_or_an_error() {
        let table = "# old\tnew\np53\tTP53\n\"c-myc\",\"MYC\"\r\n\nENSG00000141510\tTP53\n";
        fuzz_mutations::each_file(table.as_bytes(), |path| {
            if let Err(error) = read_pairs(path) {
                assert!(
                    error.to_string().contains(&*path.to_string_lossy()),
                    "{error}"
                );
            }
        });
    }

    fn naming() -> Naming {
        let pairs = |pairs: &[(&str, &str)]| {
            let own = |&(a, b): &(&str, &str)| (a.to_owned(), b.to_owned());
            pairs.iter().map(own).collect()
        };
        Naming {
            map: pairs(&[("old", "CD4"), ("TP53", "nothing")]),
            aliases: pairs(&[("p53", "TP53")]),
            duplicates: Duplicates::Sum,
            min_match: 0.0,
        }
    }

    fn vocabulary() -> Vocabulary {
        Vocabulary::from_genes(["CD4", "TP53", "ENSG00000141510"]).unwrap()
    }

    #[test]
    fn the_users_map_comes_first_then_names_aliases_and_ids_without_version() {
        let genes = names(&[
            "old",
            "TP53",
            "p53",
            "ENSG00000141510.18",
            "CD4",
            "x.1",
            "<cls>",
        ]);
        let found = naming()
            .recognize(Path::new("a"), &genes, &vocabulary())
            .unwrap();
        use How::{Alias, Duplicate, Map, Unmatched, Version};
        assert_eq!(
            found.how,
            [
                Map, Unmatched, Alias, Version, Duplicate, Unmatched, Unmatched
            ]
        );
        assert_eq!(
            found.ids,
            [Some(0), None, Some(1), Some(2), Some(0), None, None]
        );
        assert_eq!(found.n_matched(), 3);
    }

    #[test]
    fn a_vocabulary_of_new_names_contains_every_gene_it_is_made_of() {
        let mut naming = naming();
        let symbol = ("ENSG00000141510".to_owned(), "TP53".to_owned());
        naming.aliases.extend([symbol]);
        let genes = names(&[
            "old",
            "p53",
            "ENSG00000141510.18",
            "ENSG00000000003.5",
            "x.1",
        ]);
        let new: indexmap::IndexSet<&str> =
            genes.iter().map(|gene| naming.new_name(gene)).collect();
        assert_eq!(
            Vec::from_iter(&new),
            [&"CD4", &"TP53", &"ENSG00000000003", &"x.1"]
        );
        let vocabulary = Vocabulary::from_genes(new).unwrap();
        let found = naming
            .recognize(Path::new("a"), &genes, &vocabulary)
            .unwrap();
        assert_eq!(found.ids, [Some(0), Some(1), Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn duplicates_are_dropped_or_rejected_by_option() {
        let genes = names(&["CD4", "old"]);
        let first = Naming {
            duplicates: Duplicates::First,
            ..naming()
        };
        let found = first
            .recognize(Path::new("a"), &genes, &vocabulary())
            .unwrap();
        assert_eq!(found.ids, [Some(0), None]);
        let strict = Naming {
            duplicates: Duplicates::Error,
            ..naming()
        };
        let error = strict.recognize(Path::new("a"), &genes, &vocabulary());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("`CD4`") && error.contains("`old`"),
            "{error}"
        );
    }

    #[test]
    fn a_low_match_lists_both_sides() {
        let strict = Naming {
            min_match: 0.5,
            ..naming()
        };
        let genes = names(&["cd4", "tp53", "Gapdh"]);
        let error = strict.recognize(Path::new("mouse.h5ad"), &genes, &vocabulary());
        let error = error.unwrap_err().to_string();
        for part in [
            "mouse.h5ad",
            "0 of the 3 genes",
            "`Gapdh`",
            "`TP53`",
            "2 would match in upper case",
        ] {
            assert!(error.contains(part), "`{part}` is not in {error}");
        }
    }
}
