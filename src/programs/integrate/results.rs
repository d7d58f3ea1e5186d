//! Graph, clusters, UMAP and pseudotime of the embedding, and the output files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use ndarray::{Array2, ArrayView2};
use serde_json::{Value, json};

use super::data::Data;
use super::task;
use super::{Options, evaluation, imputation};
use crate::analysis::graph::Graph;
use crate::analysis::layout::{LayoutOptions, layout};
use crate::analysis::leiden::leiden;
use crate::analysis::neighbors::{Metric, nearest};
use crate::analysis::pseudotime::diffusion_pseudotime;
use crate::counts::Counts;
use crate::figures::Scatter;
use crate::formats::h5ad::{self, Additions, Embedding};
use crate::formats::{self, Column};
use crate::programs::steps;
use crate::progress;
use crate::random::Seed;
use crate::run_record::Run;
use crate::trainer::Trained;

/// Diffusion components for pseudotime.
const DIFFUSION_COMPONENTS: usize = 15;

/// Embedding, graph, clusters and UMAP coordinates of the embedded cells.
struct Map {
    placed: Vec<usize>,
    vectors: Array2<f64>,
    graph: Graph,
    clusters: Vec<usize>,
    layout: Array2<f64>,
    /// Diffusion pseudotime from the root.
    order: Option<Vec<f64>>,
}

/// Embeds the cells, scores the embedding, and writes everything.
pub fn write(
    options: &Options,
    data: &Data,
    trained: Trained<'_, Options>,
    run: &mut Run,
) -> Result<()> {
    let placed = data.placed();
    if placed.len() < data.n_cells() {
        run.warning(format!(
            "{} cells have no value in any feature that the model reads and get no coordinates (NaN)",
            data.n_cells() - placed.len()
        ));
    }
    let root = placed.iter().position(|cell| Some(*cell) == data.root);
    let vectors = run.stage("embed", |run| task::embed(trained, &placed, run.threads()));
    steps::check_interrupted(run)?;
    let map = run.stage("cluster", |_| Map::draw(options, placed, vectors, root))?;
    steps::check_interrupted(run)?;
    let scores = run.stage("score", |run| {
        evaluation::score(options, data, (&map.vectors, &map.placed), run)
    })?;
    progress::result(&evaluation::text(&scores));
    steps::check_interrupted(run)?;
    imputation::score(trained, run)?;
    if let Some(path) = &options.metrics {
        let table = evaluation::tsv(&scores);
        steps::write_text(path, &table, run)?;
    }
    if let Some(path) = &options.plot {
        let figure = figure(options, data, &map)?;
        steps::write_text(path, &figure, run)?;
    }
    run.stage("write", |run| {
        write_cells(options, data, trained, &map, run)
    })?;
    run.output(&options.output)?;
    Ok(())
}

impl Map {
    fn draw(
        options: &Options,
        placed: Vec<usize>,
        vectors: Array2<f64>,
        root: Option<usize>,
    ) -> Result<Self> {
        let neighbors = nearest(
            vectors.view(),
            vectors.view(),
            options.n_neighbors,
            Metric::Euclidean,
        )?;
        let graph = Graph::connectivities(&neighbors)?;
        let clusters = leiden(&graph, options.resolution, options.seed)?;
        let layout = layout(&graph, &LayoutOptions::default(), Seed(options.seed))?;
        let order = root.map(|root| diffusion_pseudotime(&graph, root, DIFFUSION_COMPONENTS));
        Ok(Self {
            placed,
            vectors,
            graph,
            clusters,
            layout,
            order: order.transpose()?,
        })
    }
}

/// Rows of the map in the order of the written cells, none for cells without embedding.
struct Rows(Vec<Option<usize>>);

impl Rows {
    fn new(map: &Map, cells: impl Iterator<Item = Option<usize>>) -> Self {
        let row = |cell: Option<usize>| map.placed.binary_search(&cell?).ok();
        Self(cells.map(row).collect())
    }

    fn matrix(&self, values: ArrayView2<'_, f64>) -> Embedding {
        let width = values.ncols();
        let row = |row: &Option<usize>| match row {
            Some(row) => values.row(*row).iter().map(|&value| value as f32).collect(),
            None => vec![f32::NAN; width],
        };
        Embedding {
            width,
            values: self.0.iter().flat_map(row).collect(),
        }
    }

    fn graph(&self, graph: &Graph) -> Counts {
        let mut place = vec![None; graph.n_nodes()];
        let rows = self
            .0
            .iter()
            .enumerate()
            .filter_map(|(at, row)| Some((at, (*row)?)));
        rows.for_each(|(at, row)| place[row] = Some(at as u32));
        let edges = |row: &Option<usize>| {
            let Some(row) = *row else { return Vec::new() };
            let (nodes, weights) = graph.edges(row);
            let edges = nodes.iter().zip(weights);
            let mut edges: Vec<(u32, f32)> = edges
                .filter_map(|(&node, &weight)| Some((place[node as usize]?, weight as f32)))
                .collect();
            edges.sort_by_key(|(node, _)| *node);
            edges
        };
        Counts::from_rows(self.0.len(), self.0.iter().map(edges))
    }

    fn groups(&self, clusters: &[usize]) -> Column {
        let count = clusters.iter().max().map_or(0, |last| last + 1);
        Column::Categorical {
            categories: (0..count).map(|cluster| cluster.to_string()).collect(),
            codes: self
                .0
                .iter()
                .map(|row| row.map(|row| clusters[row] as u32))
                .collect(),
            ordered: false,
        }
    }

    fn numbers(&self, values: &[f64]) -> Column {
        let value = |row: &Option<usize>| Some(values[(*row)?]).filter(|value| value.is_finite());
        Column::Number(self.0.iter().map(value).collect())
    }
}

/// All results that are added to the cells.
fn additions(
    options: &Options,
    data: &Data,
    trained: Trained<'_, Options>,
    (map, rows): (&Map, &Rows),
    threads: usize,
) -> Additions {
    let key = &options.obsm_key;
    let mut obs = vec![(format!("{key}_leiden"), rows.groups(&map.clusters))];
    if let Some(order) = &map.order {
        obs.push((format!("{key}_pseudotime"), rows.numbers(order)));
    }
    let mut obsm = vec![
        (key.clone(), rows.matrix(map.vectors.view())),
        (format!("{key}_umap"), rows.matrix(map.layout.view())),
    ];
    let mut uns = vec![(
        key.clone(),
        json!({"resolution": options.resolution, "neighbors": options.n_neighbors}),
    )];
    let lacks = |part: usize| {
        map.placed
            .iter()
            .any(|&cell| !data.parts[part].measured[cell])
    };
    for part in
        (0..data.parts.len()).filter(|&part| trained.network.has_mvc_decoder() && lacks(part))
    {
        let name = format!("{key}_{}", data.parts[part].kind.name());
        let values = imputation::complete(data, trained, part, &map.placed, threads);
        obsm.push((name.clone(), rows.matrix(values.view())));
        let features: Vec<Value> = data.parts[part].features.iter().map(|f| json!(f)).collect();
        uns.push((format!("{name}_features"), Value::Array(features)));
    }
    Additions {
        obs,
        obsm,
        obsp: vec![(format!("{key}_connectivities"), rows.graph(&map.graph))],
        uns,
        replace: true,
    }
}

/// The only input file, to which the results can be added.
fn single_file(options: &Options) -> Option<&PathBuf> {
    match (&options.input[..], &options.samples) {
        ([file], None) if options.protein.is_empty() && options.atac.is_empty() => Some(file),
        _ => None,
    }
}

fn write_cells(
    options: &Options,
    data: &Data,
    trained: Trained<'_, Options>,
    map: &Map,
    run: &mut Run,
) -> Result<()> {
    let cells = &data.cohort;
    if let Some(file) = single_file(options) {
        let positions = if formats::modalities(file)?.is_empty() {
            // In the order of the file, whose cells may share names.
            (0..cells.n_cells()).map(Some).collect()
        } else {
            cells.positions(&h5ad::cell_names(file)?)
        };
        let rows = Rows::new(map, positions.into_iter());
        let additions = additions(options, data, trained, (map, &rows), run.threads());
        return Ok(h5ad::write_copy(file, &options.output, &additions)?);
    }
    let rows = Rows::new(map, (0..cells.n_cells()).map(Some));
    let additions = additions(options, data, trained, (map, &rows), run.threads());
    let (counts, features, kinds) = all_features(data);
    let mut obs = cells.obs();
    obs.retain(|(name, _)| additions.obs.iter().all(|(new, _)| new != name));
    if !obs.iter().any(|(name, _)| name == "batch") {
        let batch = |cell: usize| Some(data.batch_names[data.batches[cell] as usize].clone());
        let batches: Vec<Option<String>> = (0..cells.n_cells()).map(batch).collect();
        obs.push(("batch".into(), Column::from_labels(&batches)));
    }
    obs.extend(additions.obs);
    let content = h5ad::Cells {
        obs: &obs,
        var: &[("feature_types".into(), kinds)],
        obsm: &additions.obsm,
        obsp: &additions.obsp,
        uns: &additions.uns,
        ..h5ad::Cells::new(&counts, &cells.names, &features)
    };
    Ok(h5ad::create(&options.output, &content)?)
}

/// The features of all modalities as one matrix, as written by Cell Ranger: values, unique names, and feature types.
fn all_features(data: &Data) -> (Counts, Vec<String>, Column) {
    let modalities = &data.cohort.modalities;
    let mut names: Vec<String> = Vec::new();
    let mut kinds: Vec<Option<String>> = Vec::new();
    let mut seen = BTreeSet::new();
    for modality in modalities {
        for feature in &modality.features {
            let mut name = feature.clone();
            while !seen.insert(name.clone()) {
                name = format!("{name}-{}", modality.kind.name());
            }
            names.push(name);
            kinds.push(Some(modality.kind.feature_type().to_owned()));
        }
    }
    let row = |cell: usize| {
        let mut start = 0;
        let mut row: Vec<(u32, f32)> = Vec::new();
        for modality in modalities {
            let (columns, values) = modality.counts.row(cell);
            let own = columns.iter().zip(values);
            row.extend(own.map(|(&column, &value)| (start + column, value)));
            start += modality.features.len() as u32;
        }
        row
    };
    let counts = Counts::from_rows(names.len(), (0..data.n_cells()).map(row));
    (counts, names, Column::from_labels(&kinds))
}

/// UMAP plot, colored by cell type or batch.
fn figure(options: &Options, data: &Data, map: &Map) -> Result<String> {
    let batch = |cell: usize| Some(data.batch_names[data.batches[cell] as usize].clone());
    let batches = || (0..data.n_cells()).map(batch).collect();
    let labels = data.color.as_ref().or(data.labels.as_ref()).cloned();
    let labels: Vec<Option<String>> = labels.unwrap_or_else(batches);
    let names: BTreeSet<&String> = labels.iter().flatten().collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let category = |&cell: &usize| names.binary_search(labels[cell].as_ref()?).ok();
    let title = options
        .color
        .as_ref()
        .or(options.labels.as_ref())
        .or(options.batch.as_ref());
    let points: Vec<(f64, f64)> = map
        .layout
        .rows()
        .into_iter()
        .map(|row| (row[0], row[1]))
        .collect();
    let figure = Scatter {
        title: title.map_or("Batches", String::as_str),
        axes: ["UMAP 1", "UMAP 2"],
        points: &points,
        categories: &map.placed.iter().map(category).collect::<Vec<_>>(),
        names: &names,
    };
    Ok(figure.to_svg())
}
