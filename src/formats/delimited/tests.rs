//! Real tables, their variants, what is rejected, and damaged files.

use std::fs;
use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::formats::tests::{dense, exercise, expected, summary};
use crate::fuzz_mutations;
use crate::support::needs::formats;

const MEMORY: usize = 1 << 20;
const TABLE: &str = "# made by hand\n\"\",\"TP53\",\"MYC\",\"CD3E\"\ncell_a,1,0,2.5\n\"cell_b\",0,3,1e1\ncell_c,0,0,7\n";
const LONG: &str = "gene\tcell\tcount\nTP53\tAAAC\t3\nTP53\tAAAG\t1\nMYC\tAAAG\t2\n";

fn read(bytes: impl AsRef<[u8]>, orientation: Orientation) -> Result<TextTable, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    open_file(file.path(), orientation, None, MEMORY)
}

fn problem(text: &str, orientation: Orientation) -> String {
    let error = read(text, orientation).unwrap_err();
    assert!(!error.is_io(), "{error}");
    error.to_string()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_table_of_genes_by_cells_from_r() {
    let file = "made/genes_by_cells_of_r.csv.gz";
    for memory in [1 << 16, MEMORY] {
        let plain = open_file(&formats(file), Orientation::Auto, None, memory).unwrap();
        assert_eq!(summary(&plain.matrix), expected(file));
        assert_eq!(plain.cell_names[224], "CELL_000224");
        assert_eq!(plain.gene_names[0], "ENSG00000000001");
    }
}

#[test]
fn small_tables_as_anndata_reads_them() {
    for file in ["text/adata.csv", "text/adata-comments.tsv"] {
        let path = formats(file);
        let plain = open_file(&path, Orientation::CellsByGenes, None, MEMORY).unwrap();
        assert_eq!(plain.cell_names, ["r1", "r2", "r3"]);
        assert_eq!(plain.gene_names, ["c1", "c2"]);
        assert_eq!(dense(&plain.matrix), [[1.0, 0.0], [3.0, 0.0], [5.0, 6.0]]);
        let error = open_file(&path, Orientation::Auto, None, MEMORY).unwrap_err();
        assert!(
            error.to_string().contains("`--orientation cells-by-genes`"),
            "{error}"
        );
    }
}

#[test]
fn counts_of_umi_tools() {
    let path = formats("text/umi_tools.tsv.gz");
    let plain = open_file(&path, Orientation::Auto, None, MEMORY).unwrap();
    assert_eq!(summary(&plain.matrix), (2, 13, 22, 145.0));
    assert_eq!(plain.cell_names, ["ACAAGG", "TTCACG"]);
    assert_eq!(plain.gene_names[3], "ENSG00000070423.17");
    assert_eq!(dense(&plain.matrix)[0][..4], [33.0, 4.0, 0.0, 2.0]);
}

#[test]
fn the_same_table_in_many_spellings() {
    let plain_text =
        "\u{feff}id;TP53;MYC;CD3E\r\ncell_a;1;0;2.5\r\n\r\ncell_b;0;3;10\r\n# end\r\ncell_c;0;0;7";
    let short_header = "TP53\tMYC\tCD3E\ncell_a\t1\t0\t2.5\ncell_b\t0\t 3\t10\ncell_c\t0\t0\t7\n";
    let turned = "gene,cell_a,cell_b,cell_c\nTP53,1,0,0\nMYC,0,3,0\nCD3E,2.5,10,7\n";
    let commented =
        "# words\n#id\tTP53\tMYC\tCD3E\n\ncell_a\t1\t0\t2.5\ncell_b\t0\t3\t10\ncell_c\t0\t0\t7\n";
    let packed = gzip(TABLE.as_bytes());
    for text in [
        TABLE.as_bytes(),
        plain_text.as_bytes(),
        short_header.as_bytes(),
        turned.as_bytes(),
        commented.as_bytes(),
        &packed,
    ] {
        let plain = read(text, Orientation::Auto).unwrap();
        assert_eq!(plain.cell_names, ["cell_a", "cell_b", "cell_c"]);
        assert_eq!(plain.gene_names, ["TP53", "MYC", "CD3E"]);
        assert_eq!(
            dense(&plain.matrix),
            [[1.0, 0.0, 2.5], [0.0, 3.0, 10.0], [0.0, 0.0, 7.0]]
        );
    }
}

#[test]
fn columns_may_be_numbered_cells_but_values_are_no_header() {
    let numbered = ",0,1,2\nTP53,1,0,0\nMYC,0,3,0\n";
    assert_eq!(
        read(numbered, Orientation::Auto).unwrap().cell_names,
        ["0", "1", "2"]
    );
    let found = problem("TP53,5,0,9\nMYC,0,3,0\n", Orientation::Auto);
    assert!(
        found.contains("a header with names was expected"),
        "{found}"
    );
}

#[test]
fn a_header_alone_is_a_table_without_rows() {
    let plain = read("cell,TP53,MYC\n", Orientation::CellsByGenes).unwrap();
    assert_eq!((plain.matrix.n_cells, plain.gene_names.len()), (0, 2));
}

#[test]
fn wrong_tables_are_rejected_with_line_and_column() {
    let cases = [
        ("", "it is empty"),
        ("# only this\n", "it is empty"),
        ("one two\n1 2\n", "line 1: neither a tab"),
        ("id,TP53,MYC\na,1\n", "line 2: 2 fields were found, 3 or 4"),
        (
            "id,TP53,MYC\na,1,2\nb,1\n",
            "line 3: 2 fields were found, 3 were expected",
        ),
        (
            "id,TP53,MYC\na,1,2\nb,1,2,3\n",
            "line 3: 4 fields were found, 3 were expected",
        ),
        (
            "id,TP53,MYC\na,1,nan\n",
            "line 2: column 3 (MYC): `nan` is not a finite number",
        ),
        ("id,TP53,MYC\na,,1\n", "line 2: column 2 (TP53): `` is not"),
        ("id,TP53,MYC\na,1,-inf\n", "`-inf` is not"),
        ("id,TP53,MYC\na,\"1,2\n", "line 2: 2 fields were found"),
        (
            "gene,cell,count\nTP53,a\n",
            "line 2: 2 fields were found, 3 were expected",
        ),
        (
            "gene,cell,count\nTP53,a,x\n",
            "line 2: column 3: `x` is not",
        ),
    ];
    for (text, expected) in cases {
        let found = problem(text, Orientation::CellsByGenes);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn names_and_lines_have_limits() {
    let line = format!("id,{}\n", "A,".repeat(1 << 19));
    assert!(problem(&line, Orientation::CellsByGenes).contains("line 1: it is longer"));
    let names: String = (0..60_000).map(|at| format!("c{at},1\n")).collect();
    let found = problem(&format!("id,TP53\n{names}"), Orientation::CellsByGenes);
    assert!(found.contains("give more memory"), "{found}");
}

#[test]
fn damaged_tables_give_a_result_or_an_error() {
    for text in [TABLE, LONG] {
        let packed = zstd::encode_all(text.as_bytes(), 3).unwrap();
        for whole in [text.as_bytes().to_vec(), gzip(text.as_bytes()), packed] {
            fuzz_mutations::each_file(&whole, |path| {
                exercise(open_file(path, Orientation::Auto, None, MEMORY));
            });
        }
    }
}
