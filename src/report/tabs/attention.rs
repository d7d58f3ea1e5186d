//! Attention between genes, and gene programs.

use maud::{Markup, html};

use crate::report::attention::{Edge, Edges, MOST_EDGES, Matrix};
use crate::report::content::Content;
use crate::report::figures::heat::Heat;
use crate::report::figures::network::network;
use crate::report::html::{Cell, Table, empty, figure, number, plural, shortened};
use crate::report::table::{self, Kind, MOST_ROWS};

/// Maximum number of edges of a network, and of networks of a table.
const PLOTTED: usize = 60;
const NETWORKS: usize = 3;

/// The tab.
pub fn section(content: &Content) -> Markup {
    let tables = &content.evidence.tables;
    let (lists, others): (Vec<_>, Vec<_>) = tables
        .iter()
        .enumerate()
        .partition(|(_, table)| matches!(table.kind, Kind::Edges(_)));
    html! {
        @if tables.is_empty() && content.attention.is_empty() {
            (empty("No attention and no gene programs.", "Provide outputs of scgpt-grn to show this section: run records, or the tables of --edges and --program-scores and the h5ad file of genes."))
        }
        @for matrix in &content.attention { (heat(matrix)) }
        @for (at, table) in lists.into_iter().chain(others) {
            @match &table.kind {
                Kind::Edges(edges) => { (interactions(table, edges, at)) }
                Kind::Rows { what, header, rows } => { (listed(table, what, header, rows)) }
            }
        }
    }
}

fn heat(matrix: &Matrix) -> Markup {
    let n = matrix.genes.len();
    let pairs = (0..n)
        .flat_map(|row| (0..n).map(move |column| (row, column)))
        .filter(|&(row, column)| row != column && matrix.scores[(row, column)].is_finite());
    let size = |at: (usize, usize)| matrix.scores[at].abs();
    let Some(most) = pairs.max_by(|a, b| size(*a).total_cmp(&size(*b))) else {
        return html! {};
    };
    let (target, regulator) = (
        shortened(&matrix.genes[most.0]),
        shortened(&matrix.genes[most.1]),
    );
    let result = if matrix.is_difference() {
        format!("the attention of {target} to {regulator} differs most from the control")
    } else {
        format!("{target} attends most to {regulator}")
    };
    let takeaway = format!(
        "{n} of {}; among these, {result} ({}).",
        plural(matrix.n_genes, "gene"),
        number(matrix.scores[most], 4)
    );
    let (kind, condition) = matrix.name.split_once('_').unwrap_or(("", &matrix.name));
    let (name, what) = if matrix.is_difference() {
        (
            format!("difference in attention of {condition} from the control"),
            "attention, difference from the control",
        )
    } else {
        (format!("{kind} of {condition}"), "attention")
    };
    let format = |at: (usize, usize)| format!("{:.4}", matrix.scores[at]);
    let heat = Heat {
        rows: &matrix.genes,
        columns: &matrix.genes,
        values: &matrix.scores,
        axes: ["query gene (target)", "key gene (regulator)"],
        what,
        format: &format,
    };
    figure(
        &format!(
            "{name}, {}",
            matrix
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
        ),
        &takeaway,
        &heat.draw(),
    )
}

/// The strongest interactions of an edge table, and networks of conditions or programs.
fn interactions(table: &table::Table, edges: &Edges, at: usize) -> Markup {
    let (title, kind, from, to) = if edges.is_directed {
        (
            "Top gene interactions by attention",
            "condition",
            "regulator",
            "target",
        )
    } else {
        ("Most similar genes", "program", "gene", "gene")
    };
    let strongest = edges.strongest(MOST_EDGES);
    let mut rows = Table::new(
        &shortened(&format!("{title}, {}", table.name())),
        edges_note(table, edges, strongest.len()),
        &[from, to, "score", kind],
    );
    let row = |edge: &&Edge| {
        let group = if edge.group.is_empty() {
            Cell::Missing
        } else {
            Cell::text(&edge.group)
        };
        let (from, to) = (Cell::text(&edge.from), Cell::text(&edge.to));
        vec![from, to, Cell::Number(edge.score, 5), group]
    };
    rows.rows = strongest.iter().map(row).collect();
    let groups = edges.groups();
    let arrow = |n: usize| edges.is_directed.then(|| format!("arrow-{at}-{n}"));
    html! {
        div.pair { @for (n, group) in groups.iter().take(NETWORKS).enumerate() { (network_figure(edges, group, kind, arrow(n))) } }
        @if groups.len() > NETWORKS { p.note { "Networks of " (NETWORKS) " of " (plural(groups.len(), kind)) " are plotted, those with most edges." } }
        (rows.render())
    }
}

/// Which edges of the file are included.
fn edges_note(table: &table::Table, edges: &Edges, shown: usize) -> String {
    let mut note = format!("The {shown} strongest of {}.", plural(edges.n, "edge"));
    if edges.is_directed && edges.has_negative() {
        note += " Scores are differences from the control: negative scores mean less attention than in the control.";
    }
    if table.is_cut {
        note += " The file is too large to read completely: these are edges from its beginning.";
    }
    if edges.n_omitted > 0 {
        note += &format!(
            " {} of further programs or conditions are omitted.",
            plural(edges.n_omitted, "edge")
        );
    }
    note
}

fn network_figure(edges: &Edges, group: &str, kind: &str, arrow: Option<String>) -> Markup {
    let top = edges.top(group, PLOTTED);
    let mut degrees = std::collections::BTreeMap::new();
    for edge in &top {
        *degrees
            .entry(if arrow.is_some() {
                &edge.from
            } else {
                &edge.to
            })
            .or_insert(0) += 1;
    }
    let takeaway = match degrees
        .iter()
        .max_by_key(|(gene, n)| (**n, std::cmp::Reverse(*gene)))
    {
        Some((gene, n)) => format!(
            "The {} strongest edges; {} has {n} of them.",
            top.len(),
            shortened(gene)
        ),
        None => String::new(),
    };
    figure(
        &format!("Network of {kind} {}", shortened(group)),
        &takeaway,
        &network(&top, arrow.as_deref()),
    )
}

fn listed(table: &table::Table, what: &str, header: &[String], rows: &[Vec<String>]) -> Markup {
    let cell = |text: &String| match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e15 => {
            Cell::Number(value, 0)
        }
        Ok(value) if value.is_finite() && value.abs() < 0.001 => Cell::Probability(value),
        Ok(value) if value.is_finite() => Cell::Number(value, 3),
        _ if text.is_empty() => Cell::Missing,
        _ => Cell::text(text),
    };
    let shown = Table {
        title: shortened(&format!("{what}, {}", table.name())),
        note: match table.is_cut {
            true if rows.len() == MOST_ROWS => format!("The first {MOST_ROWS} rows."),
            true => "The first rows of a file that is too large to read completely.".into(),
            false => String::new(),
        },
        columns: header.to_vec(),
        rows: rows
            .iter()
            .map(|row| row.iter().map(cell).collect())
            .collect(),
    };
    shown.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn differences_are_labeled_as_such() {
        let matrix = |name: &str| Matrix {
            name: name.into(),
            path: "genes.h5ad".into(),
            genes: ["A", "B"].map(str::to_owned).to_vec(),
            scores: array![[9.0, -0.5], [0.2, 0.0]],
            n_genes: 2,
        };
        let difference = heat(&matrix("difference_stim")).into_string();
        assert!(
            difference
                .contains("the attention of A to B differs most from the control (\u{2212}0.5000)")
        );
        assert!(!difference.contains("attends most"));
        let attention = heat(&matrix("attention_stim")).into_string();
        assert!(
            attention.contains("A attends most to B") && attention.contains("attention of stim")
        );
    }
}
