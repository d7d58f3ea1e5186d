//! Gene sets in GMT files (gene matrix transposed, the format of MSigDB and of GSEA): one set a line with a name, a
//! description and genes, tabs between them; plain, gzip or zstd.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use indexmap::IndexMap;

use super::Error;
use super::compressed::Lines;
use super::text::{Names, longest_line, shown};

/// Genes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneSet {
    /// Never empty, and of no other set of the same file.
    pub name: String,
    /// May be empty.
    pub description: String,
    /// At least one gene, each once, in the order of the file.
    pub genes: Vec<String>,
}

/// Reads the gene sets of a GMT file, in its order, with about `memory` bytes at most.
///
/// Spaces around fields, empty genes, genes that come again in the same set, and blank lines are dropped.
///
/// # Errors
/// A file that cannot be read, holds no set or more than fits in memory; a line with a name or a gene that is not UTF-8, with fewer
/// than three columns or without any gene, without a name, or with a name that an earlier line has.
pub fn read(path: &Path, memory: usize) -> Result<Vec<GeneSet>, Error> {
    std::fs::metadata(path).map_err(|error| Error::opening(path, error))?;
    let mut lines = Lines::open(path, longest_line(memory))?;
    let (mut names, mut sets) = (Names::within(memory), IndexMap::new());
    let mut at = 0u64;
    while let Some(line) = lines.next()? {
        at += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let set = gene_set(line, &mut names).map_err(|problem| lines.wrong(problem))?;
        if let Some((first, _)) = sets.get(&set.name) {
            let name = shown(set.name.as_bytes());
            let problem =
                format!("the set `{name}` is on line {first} already: rename one of them");
            return Err(lines.wrong(problem));
        }
        sets.insert(set.name.clone(), (at, set));
    }
    if sets.is_empty() {
        let problem = "it is empty: lines with a name, a description and genes were expected, with tabs between them";
        return Err(Error::input(path, problem));
    }
    Ok(sets.into_values().map(|(_, set)| set).collect())
}

/// The set on a line, or what is wrong with it.
fn gene_set(line: &[u8], names: &mut Names) -> Result<GeneSet, String> {
    let mut fields = line.split(|&byte| byte == b'\t').map(<[u8]>::trim_ascii);
    let name = fields.next().unwrap_or_default();
    let description = fields.next();
    let (mut genes, mut seen, mut columns) = (Vec::new(), HashSet::new(), 2);
    for gene in fields {
        columns += 1;
        if !gene.is_empty() && seen.insert(gene) {
            genes.push(names.name(gene)?);
        }
    }
    match description {
        _ if name.is_empty() => Err(format!("it has no name, {EXPECTED}")),
        None => Err(format!(
            "1 column was found (`{}`), {EXPECTED}",
            shown(name)
        )),
        _ if columns == 2 => Err(format!(
            "2 columns were found (`{}` first), {EXPECTED}",
            shown(name)
        )),
        _ if genes.is_empty() => Err(format!(
            "the set `{}` has no genes, {EXPECTED}",
            shown(name)
        )),
        Some(description) => Ok(GeneSet {
            name: names.name(name)?,
            description: names.name(description)?,
            genes,
        }),
    }
}

const EXPECTED: &str =
    "a name, a description and at least one gene were expected, with tabs between them";

/// Writes gene sets as GMT. Tabs, ends of lines and other control characters within names become spaces; sets without genes, which
/// the format cannot hold, are dropped.
///
/// # Errors
/// Those of the writer.
pub fn write(sets: &[GeneSet], to: &mut dyn Write) -> io::Result<()> {
    for set in sets.iter().filter(|set| !set.genes.is_empty()) {
        write!(to, "{}\t{}", field(&set.name), field(&set.description))?;
        for gene in &set.genes {
            write!(to, "\t{}", field(gene))?;
        }
        writeln!(to)?;
    }
    Ok(())
}

fn field(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::fuzz_mutations;

    const MEMORY: usize = 1 << 24;

    fn parse(text: impl AsRef<[u8]>) -> Result<Vec<GeneSet>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), MEMORY)
    }

    fn set(name: &str, description: &str, genes: &[&str]) -> GeneSet {
        GeneSet {
            name: name.into(),
            description: description.into(),
            genes: genes.iter().map(|&gene| gene.into()).collect(),
        }
    }

    fn problem(text: impl AsRef<[u8]>) -> String {
        let error = parse(text).unwrap_err();
        assert!(!error.is_io());
        error.to_string()
    }

    #[test]
    fn sets_are_read_plain_and_compressed() {
        let text = "\u{feff}A\tfirst set\tTP53\t\tMYC \tTP53\r\n\n \t \nB\t\tGATA1\t\n";
        let expected = [
            set("A", "first set", &["TP53", "MYC"]),
            set("B", "", &["GATA1"]),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        assert_eq!(parse(gzip.finish().unwrap()).unwrap(), expected);
    }

    #[test]
    fn errors_name_the_line_what_is_there_and_what_should_be() {
        let found = problem("A\td\tX\nHALLMARK_HYPOXIA\n");
        assert!(found.contains("line 2: 1 column was found (`HALLMARK_HYPOXIA`), a name, a description and at least one gene"), "{found}");
        for (text, part) in [
            (&b"A B C\n"[..], "line 1: 1 column"),
            (b"A\tB\n", "line 1: 2 columns were found (`A` first)"),
            (b"A\tB\t\t \n", "the set `A` has no genes"),
            (b"\n\tB\tX\n", "line 2: it has no name"),
            (
                b"A\td\tX\nB\td\tX\nA\td\tY",
                "line 3: the set `A` is on line 1 already",
            ),
            (b"A\td\tX\xff", "line 1: the name `X\u{fffd}` is not UTF-8"),
            (b"", "it is empty"),
            (b"\n\r\n", "it is empty"),
        ] {
            let found = problem(text);
            assert!(found.contains(part), "{part} is not in {found}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            [b"A\td".to_vec(), vec![b'\t'; 3 << 20]].concat(),
        )
        .unwrap();
        let found = read(file.path(), 1 << 20).unwrap_err().to_string();
        assert!(
            found.contains("line 1: it is longer than 1048576 bytes"),
            "{found}"
        );
        let many: String = (0..1000).map(|i| format!("S{i}\t\tG{i}\n")).collect();
        std::fs::write(file.path(), many).unwrap();
        let found = read(file.path(), 20_000).unwrap_err().to_string();
        assert!(found.contains("give more memory"), "{found}");
    }

    #[test]
    fn missing_files_and_directories_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read(&directory.path().join("none.gmt"), MEMORY).unwrap_err();
        assert!(
            !missing.is_io() && missing.to_string().contains("no such file"),
            "{missing}"
        );
        assert!(read(directory.path(), MEMORY).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = "x".repeat(10_000);
        let sets = [
            set("<script>&", "\"quoted\"", &["a,b", "תא", &long]),
            set(&long, "", &["X"]),
            set("empty", "dropped", &[]),
        ];
        let mut text = Vec::new();
        write(&sets, &mut text).unwrap();
        assert_eq!(parse(&text).unwrap(), sets[..2]);
        let mut text = Vec::new();
        write(&[set("a\tb\nc", "d\re", &["f\0g"])], &mut text).unwrap();
        assert_eq!(text, b"a b c\td e\tf g\n");
    }

    #[test]
    fn damaged_files_give_sets_or_an_error() {
        fuzz_mutations::each_file(
            "A\tfirst\tTP53\tMYC\nB\t\tGATA1\n".as_bytes(),
            |path| match read(path, MEMORY) {
                Ok(sets) => assert!(
                    sets.iter()
                        .all(|set| !set.name.is_empty() && !set.genes.is_empty())
                ),
                Err(error) => assert!(
                    error.to_string().contains(&*path.to_string_lossy()),
                    "{error}"
                ),
            },
        );
    }
}
