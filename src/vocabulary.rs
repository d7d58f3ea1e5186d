//! Gene names and their token ids, with the special tokens of the model.
//!
//! A vocabulary comes from the `vocab.json` of a checkpoint or is made from the genes of a data set. Names match exactly,
//! case included; there is no alias handling. See docs/methods.md, "Gene vocabulary".

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use indexmap::IndexSet;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Fills sequences that are shorter than their minibatch; also stands for unknown genes in perturbation tasks.
pub const PAD: &str = "<pad>";
/// Opens every cell; its hidden state is the cell embedding.
pub const CLS: &str = "<cls>";
/// Part of every published vocabulary, never used in a sequence.
pub const EOC: &str = "<eoc>";
/// The special tokens in the order in which missing ones are appended.
pub const SPECIAL_TOKENS: [&str; 3] = [PAD, CLS, EOC];

/// Unmatched or repeated genes listed in a report.
const EXAMPLES: usize = 5;

/// Why a vocabulary could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not use the vocabulary `{path}`")]
    File { path: PathBuf, source: Box<Error> },
    #[error("could not read the file")]
    Read(#[from] std::io::Error),
    #[error("not a JSON object of token names and ids")]
    Json(#[from] serde_json::Error),
    #[error("id {id} belongs to both `{first}` and `{second}`; every id must be given once")]
    RepeatedId {
        id: u32,
        first: String,
        second: String,
    },
    #[error(
        "ids must be consecutive from 0: expected id {expected} next, found {found} (`{token}`)"
    )]
    Gap {
        expected: usize,
        found: u32,
        token: String,
    },
    #[error("token `{0}` appears more than once; make the names unique")]
    RepeatedToken(String),
}

/// Token names in id order: the position of a name is its id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vocabulary {
    tokens: IndexSet<String>,
}

impl Vocabulary {
    /// Reads a `vocab.json`: an object from token to id, in any order.
    ///
    /// Fails when the file cannot be read or [`Vocabulary::from_json`] rejects it; the error names the file.
    pub fn from_json_file(path: &Path) -> Result<Self, Error> {
        let read = || Self::from_json(&std::fs::read(path)?);
        read().map_err(|source| Error::File {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Reads a JSON object from token to id, in any order.
    ///
    /// Fails on other JSON, a repeated token or id, and ids that are not consecutive from 0.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let Entries(mut entries) = serde_json::from_slice(json)?;
        entries.sort_by_key(|&(_, id)| id);
        for (position, pair) in entries.windows(2).enumerate() {
            let [(first, id), (second, next)] = pair else {
                continue;
            };
            if id == next {
                return Err(Error::RepeatedId {
                    id: *id,
                    first: first.clone(),
                    second: second.clone(),
                });
            }
            check_consecutive(position, *id, first)?;
        }
        if let Some((token, id)) = entries.last() {
            check_consecutive(entries.len() - 1, *id, token)?;
        }
        Self::from_tokens(entries.into_iter().map(|(token, _)| token))
    }

    /// Gives ids to genes in the given order, then to the special tokens. Fails on a repeated gene.
    pub fn from_genes<S: Into<String>>(genes: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        Ok(Self::from_tokens(genes)?.with_special_tokens())
    }

    /// Gives ids to distinct tokens in the given order.
    pub fn from_tokens<S: Into<String>>(
        tokens: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        let mut distinct = IndexSet::new();
        for token in tokens {
            let token = token.into();
            if distinct.contains(&token) {
                return Err(Error::RepeatedToken(token));
            }
            distinct.insert(token);
        }
        Ok(Self { tokens: distinct })
    }

    /// Orders tokens by decreasing frequency, then by name, as the class constructor of the original implementation does.
    ///
    /// `specials` come first or last, whether or not they are among the tokens.
    pub fn from_frequencies<'a>(
        words: impl IntoIterator<Item = &'a str>,
        specials: &[&str],
        specials_first: bool,
    ) -> Result<Self, Error> {
        let mut counts = std::collections::BTreeMap::new();
        for word in words {
            *counts.entry(word).or_insert(0_usize) += 1;
        }
        let mut ordered: Vec<_> = counts
            .into_iter()
            .filter(|(word, _)| !specials.contains(word))
            .collect();
        ordered.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let words = ordered.into_iter().map(|(word, _)| word);
        let specials = specials.iter().copied();
        if specials_first {
            Self::from_tokens(specials.chain(words))
        } else {
            Self::from_tokens(words.chain(specials))
        }
    }

    /// Appends the special tokens that are missing, in their fixed order.
    #[must_use]
    pub fn with_special_tokens(mut self) -> Self {
        self.tokens.extend(SPECIAL_TOKENS.map(String::from));
        self
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokens.get_index_of(token).map(|id| id as u32)
    }

    /// Id of a gene. A special token is none: it would act as padding or as the cell token.
    pub fn gene_id(&self, gene: &str) -> Option<u32> {
        self.id(gene).filter(|_| !is_special(gene))
    }

    /// Name of a token.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get_index(id as usize).map(String::as_str)
    }

    /// Id of `<pad>`, when the vocabulary has it.
    pub fn pad(&self) -> Option<u32> {
        self.id(PAD)
    }

    /// Id of `<cls>`, when the vocabulary has it.
    pub fn cls(&self) -> Option<u32> {
        self.id(CLS)
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Names in id order.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tokens.iter().map(String::as_str)
    }

    /// Names in id order without the special tokens.
    pub fn genes(&self) -> impl Iterator<Item = &str> {
        self.tokens().filter(|token| !is_special(token))
    }

    /// The object from token to id as the original implementation writes it: in id order, indented by two spaces.
    pub fn to_json(&self) -> String {
        let ids: serde_json::Map<_, _> = self
            .tokens()
            .zip(0_u32..)
            .map(|(token, id)| (token.into(), id.into()))
            .collect();
        serde_json::to_string_pretty(&ids).expect("a map of strings to integers is always JSON")
    }

    /// Looks up the genes of a data set.
    ///
    /// A gene with the name of a special token is not matched: it would act as padding or as the cell token.
    pub fn match_genes(&self, genes: &[String]) -> Match {
        let ids: Vec<_> = genes.iter().map(|gene| self.gene_id(gene)).collect();
        let mut seen = HashSet::with_capacity(genes.len());
        let mut repeated = IndexSet::new();
        for gene in genes {
            if !seen.insert(gene.as_str()) {
                repeated.insert(gene.as_str());
            }
        }
        let unmatched = genes
            .iter()
            .zip(&ids)
            .filter(|(_, id)| id.is_none())
            .map(|(gene, _)| gene.as_str());
        let unused = self.genes().filter(|gene| !seen.contains(gene));
        Match {
            matched: ids.iter().flatten().count(),
            unmatched: Names::from_iter(unmatched),
            unused: Names::from_iter(unused),
            repeated: Names::from_iter(repeated),
            ids,
        }
    }
}

/// Match of the genes of a data set with a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// Token id of every gene, in the order of the data.
    #[serde(skip)]
    pub ids: Vec<Option<u32>>,
    /// Genes of the data that are in the vocabulary.
    pub matched: usize,
    /// Genes of the data that are not in the vocabulary.
    pub unmatched: Names,
    /// Genes of the vocabulary that are not in the data.
    pub unused: Names,
    /// Gene names of several columns of the data.
    pub repeated: Names,
}

/// A number of names and the first few of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Names {
    pub count: usize,
    pub examples: Vec<String>,
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        let mut collected = Self::default();
        for name in names {
            if collected.count < EXAMPLES {
                collected.examples.push(name.to_owned());
            }
            collected.count += 1;
        }
        collected
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if !self.examples.is_empty() {
            write!(f, " ({}", self.examples.join(", "))?;
            f.write_str(if self.count > self.examples.len() {
                ", ...)"
            } else {
                ")"
            })?;
        }
        Ok(())
    }
}

fn is_special(token: &str) -> bool {
    SPECIAL_TOKENS.contains(&token)
}

fn check_consecutive(expected: usize, found: u32, token: &str) -> Result<(), Error> {
    if found as usize == expected {
        return Ok(());
    }
    Err(Error::Gap {
        expected,
        found,
        token: token.to_owned(),
    })
}

/// The entries of the JSON object as written: a map type would drop a repeated token.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object from token to id")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::needs;
    use proptest::prelude::*;

    fn genes(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tokenizer_golden_class_constructor() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../tests/data/tokenizer/vocab_cases.json")).unwrap();
        for (case, specials_first) in [
            ("from_list_specials_first", true),
            ("from_list_specials_last", false),
        ] {
            let words = ["C", "A", "B", "A", "<cls>"];
            let made = Vocabulary::from_frequencies(words, &[PAD, CLS], specials_first).unwrap();
            let expected = Vocabulary::from_json(golden[case].to_string().as_bytes()).unwrap();
            assert_eq!(made, expected, "{case}");
        }
    }

    #[test]
    fn special_tokens_are_appended_in_order_and_only_once() {
        let vocabulary = Vocabulary::from_genes(["B", "A"]).unwrap();
        assert_eq!(
            vocabulary.tokens().collect::<Vec<_>>(),
            ["B", "A", PAD, CLS, EOC]
        );
        assert_eq!(
            (vocabulary.pad(), vocabulary.cls(), vocabulary.id("a")),
            (Some(2), Some(3), None)
        );
        let partial = Vocabulary::from_tokens([CLS, "A"])
            .unwrap()
            .with_special_tokens();
        assert_eq!(partial.tokens().collect::<Vec<_>>(), [CLS, "A", PAD, EOC]);
        assert_eq!(vocabulary.clone().with_special_tokens(), vocabulary);
    }

    #[test]
    fn bad_files_are_rejected_with_the_reason() {
        let message = |json: &str| {
            Vocabulary::from_json(json.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert!(message(r#"{"A": 0, "B": 2}"#).contains("expected id 1 next, found 2 (`B`)"));
        assert!(message(r#"{"A": 1, "B": 2}"#).contains("expected id 0 next, found 1 (`A`)"));
        assert!(message(r#"{"A": 4294967295}"#).contains("expected id 0"));
        assert!(message(r#"{"A": 0, "B": 0}"#).contains("id 0 belongs to both `A` and `B`"));
        assert!(message(r#"{"A": 0, "A": 1}"#).contains("token `A` appears more than once"));
        for json in [
            r#"["A"]"#,
            r#"{"A": -1}"#,
            r#"{"A": "0"}"#,
            r#"{"A": 0.5}"#,
            r#"{"A": 4294967296}"#,
            "{",
            "",
        ] {
            assert!(message(json).contains("not a JSON object"), "{json}");
        }
        assert!(
            Vocabulary::from_genes(["A", "B", "A"])
                .unwrap_err()
                .to_string()
                .contains("`A`")
        );
        let missing = Vocabulary::from_json_file(Path::new("no/vocab.json")).unwrap_err();
        assert!(missing.to_string().contains("no/vocab.json"));
    }

    /// The vocabulary in a file of 60,694 entries, which are read fast and written back.
    fn large(path: &Path) -> Vocabulary {
        let start = std::time::Instant::now();
        let vocabulary = Vocabulary::from_json_file(path).unwrap();
        let elapsed = start.elapsed();
        assert_eq!(vocabulary.len(), 60_694);
        assert_eq!(vocabulary.clone().with_special_tokens().pad(), Some(60_694));
        assert_eq!(
            Vocabulary::from_json(vocabulary.to_json().as_bytes()).unwrap(),
            vocabulary
        );
        // A quadratic reader needs minutes; the bound is loose because test machines are busy.
        assert!(elapsed.as_millis() < 1000, "{elapsed:?}");
        vocabulary
    }

    #[test]
    fn large_vocabularies_read_fast_and_write_back() {
        // In an order that is not that of the ids.
        let entry = |at: usize| {
            let id = at * 7919 % 60_694;
            format!("\"ENSG{id:011}\": {id}")
        };
        let entries: Vec<String> = (0..60_694).map(entry).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{{{}}}", entries.join(", "))).unwrap();
        assert_eq!(large(file.path()).id("ENSG00000036565"), Some(36_565));
    }

    #[test]
    fn the_published_vocabulary_reads_fast_and_writes_back() {
        if let Some(path) = needs::real("vocabulary/census_gene_vocab.json") {
            assert_eq!(large(&path).id("ZZZ3"), Some(36_565));
        }
    }

    #[test]
    fn json_is_written_as_by_the_original_implementation() {
        let file = include_str!("../tests/data/annotation/checkpoint/vocab.json");
        assert_eq!(
            Vocabulary::from_json(file.as_bytes()).unwrap().to_json(),
            file.trim_end()
        );
    }

    #[test]
    fn matching_reports_both_sides_and_repeats() {
        let vocabulary = Vocabulary::from_genes(["A", "B", "C", "D"]).unwrap();
        let found = vocabulary.match_genes(&genes(&["X", "C", "A", "C", "<cls>", "X"]));
        assert_eq!(found.ids, [None, Some(2), Some(0), Some(2), None, None]);
        assert_eq!((found.matched, found.unmatched.count), (3, 3));
        assert_eq!(
            found.unused,
            Names {
                count: 2,
                examples: genes(&["B", "D"])
            }
        );
        assert_eq!(
            found.repeated,
            Names {
                count: 2,
                examples: genes(&["C", "X"])
            }
        );
        let many: Vec<_> = (0..9).map(|i| format!("new{i}")).collect();
        let text = vocabulary.match_genes(&many).unmatched.to_string();
        assert_eq!(text, "9 (new0, new1, new2, new3, new4, ...)");
    }

    #[test]
    fn damaged_files_give_a_vocabulary_or_an_error() {
        let json = r#"{"TP53": 0, "<pad>": 2, "MY\u0043": 1, "<cls>": 3, "HLA-A": 4}"#;
        crate::fuzz_mutations::each(json.as_bytes(), |bytes| {
            if let Ok(vocabulary) = Vocabulary::from_json(bytes) {
                assert!(vocabulary.len() <= 5 * 4);
            }
        });
    }

    proptest! {
        #[test]
        fn written_vocabularies_read_back(names in proptest::collection::hash_set(".{0,6}", 0..30)) {
            let vocabulary = Vocabulary::from_tokens(names).unwrap();
            prop_assert_eq!(Vocabulary::from_json(vocabulary.to_json().as_bytes()).unwrap(), vocabulary);
        }
    }
}
