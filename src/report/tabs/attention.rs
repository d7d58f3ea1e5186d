//! What genes attend to, and their programs.

use maud::{Markup, html};

use crate::report::attention::{self, Edge, Matrix};
use crate::report::figures::heat::Heat;
use crate::report::figures::network::network;
use crate::report::html::{Cell, Table, empty, figure, plural, shortened};
use crate::report::page::Content;
use crate::report::table;

/// Edges of a table, of a network, and networks of a list.
const LISTED: usize = 200;
const DRAWN: usize = 60;
const NETWORKS: usize = 3;
/// Rows of other tables.
const ROWS: usize = 500;
/// Tables of gene networks, by their columns, with what they are.
const KINDS: [(&[&str], &str); 3] = [
    (&["group", "program", "score"], "Scores of programs"),
    (&["list", "set", "overlap", "bh"], "Enriched gene sets"),
    (
        &["method", "regulator", "auprc", "auroc"],
        "Agreement with known regulation",
    ),
];

/// The tab.
pub fn section(content: &Content) -> Markup {
    let tables = &content.evidence.tables;
    let lists: Vec<_> = tables
        .iter()
        .filter_map(|table| Some((table, attention::edges(table)?)))
        .collect();
    let others: Vec<_> = tables
        .iter()
        .filter_map(|table| {
            KINDS
                .iter()
                .find(|(columns, _)| table.has(columns))
                .map(|(_, name)| (table, *name))
        })
        .collect();
    html! {
        @if lists.is_empty() && others.is_empty() && content.attention.is_empty() {
            (empty("No attention and no gene programs.", "Outputs of scgpt-grn fill this: its run records, or the tables of --edges and --scores and the h5ad file of genes."))
        }
        @for matrix in &content.attention { (heat(matrix)) }
        @for (at, (table, edges)) in lists.iter().enumerate() { (interactions(table, edges, at)) }
        @for (table, name) in others { (listed(table, name)) }
    }
}

fn heat(matrix: &Matrix) -> Markup {
    let n = matrix.genes.len();
    let pairs = (0..n)
        .flat_map(|row| (0..n).map(move |column| (row, column)))
        .filter(|(row, column)| row != column);
    let Some(most) = pairs.max_by(|a, b| matrix.scores[*a].total_cmp(&matrix.scores[*b])) else {
        return html! {};
    };
    let takeaway = format!(
        "{} of {}; among these, {} attends most to {} ({:.4}).",
        n,
        plural(matrix.n_genes, "gene"),
        shortened(&matrix.genes[most.0]),
        shortened(&matrix.genes[most.1]),
        matrix.scores[most]
    );
    let shown = |at: (usize, usize)| format!("{:.4}", matrix.scores[at]);
    let name = shortened(&matrix.name.replacen('_', " of ", 1));
    let heat = Heat {
        rows: &matrix.genes,
        columns: &matrix.genes,
        values: &matrix.scores,
        axes: ["gene that attends (target)", "gene attended to (regulator)"],
        what: "attention",
        shown: &shown,
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

/// The strongest interactions of the list at a position as a table, and networks of conditions or programs.
fn interactions(table: &table::Table, edges: &[Edge], at: usize) -> Markup {
    let is_directed = table.has(&["regulator"]);
    let (kind, from, to) = if is_directed {
        ("condition", "regulator", "target")
    } else {
        ("program", "gene", "gene")
    };
    let groups = attention::groups(edges);
    let cut = if table.is_cut {
        "the first rows of"
    } else {
        "all rows of"
    };
    let title = format!(
        "{} {}",
        if is_directed {
            "Top gene interactions by attention,"
        } else {
            "Most similar genes,"
        },
        table.name()
    );
    let mut strongest: Vec<&Edge> = edges.iter().filter(|edge| edge.from != edge.to).collect();
    strongest.sort_by(|a, b| {
        b.score
            .abs()
            .total_cmp(&a.score.abs())
            .then_with(|| (&a.from, &a.to).cmp(&(&b.from, &b.to)))
    });
    let mut rows = Table::new(
        &shortened(&title),
        format!(
            "The {} strongest of {cut} the table.",
            LISTED.min(strongest.len())
        ),
        &[from, to, "score", kind],
    );
    rows.rows = strongest
        .iter()
        .take(LISTED)
        .map(|edge| {
            let group = if edge.group.is_empty() {
                Cell::Missing
            } else {
                Cell::text(&edge.group)
            };
            vec![
                Cell::text(&edge.from),
                Cell::text(&edge.to),
                Cell::Number(edge.score, 5),
                group,
            ]
        })
        .collect();
    html! {
        div.pair { @for (n, group) in groups.iter().take(NETWORKS).enumerate() { (drawn(edges, group, kind, is_directed.then(|| format!("arrow-{at}-{n}")))) } }
        (rows.render())
    }
}

fn drawn(edges: &[Edge], group: &str, kind: &str, arrow: Option<String>) -> Markup {
    let top = attention::top(edges, group, DRAWN);
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

fn listed(table: &table::Table, name: &str) -> Markup {
    let mut rows = Table {
        title: shortened(&format!("{name}, {}", table.name())),
        note: if table.is_cut || table.rows.len() > ROWS {
            format!("The first {ROWS} rows.")
        } else {
            String::new()
        },
        columns: table.header.clone(),
        rows: Vec::new(),
    };
    let cell = |text: &String| match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value.fract() == 0.0 && value.abs() < 1e15 => {
            Cell::Number(value, 0)
        }
        Ok(value) if value.is_finite() && value.abs() < 0.001 => Cell::Probability(value.abs()),
        Ok(value) if value.is_finite() => Cell::Number(value, 3),
        _ if text.is_empty() => Cell::Missing,
        _ => Cell::text(text),
    };
    rows.rows = table
        .rows
        .iter()
        .take(ROWS)
        .map(|row| row.iter().map(cell).collect())
        .collect();
    rows.render()
}
