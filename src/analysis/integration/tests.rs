use ndarray::{Array2, Axis, array};

use super::*;
use crate::analysis::neighbors::{Metric, nearest};
use crate::random::{Seed, below, normal_pair};

/// Numbers of the named fields of a golden file.
struct Golden(serde_json::Value);

impl Golden {
    fn read(name: &str) -> Self {
        let path = format!(
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/analysis/{}"),
            name
        );
        Self(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<Option<f64>> {
        let values = self.0[name].as_array().unwrap();
        values.iter().map(serde_json::Value::as_f64).collect()
    }

    fn codes(&self, name: &str) -> Vec<usize> {
        serde_json::from_value(self.0[name].clone()).unwrap()
    }

    fn embedding(&self) -> Array2<f64> {
        let rows: Vec<Vec<f64>> = serde_json::from_value(self.0["embedding"].clone()).unwrap();
        Array2::from_shape_vec((rows.len(), rows[0].len()), rows.concat()).unwrap()
    }

    fn graph(&self) -> Graph {
        let edges: Vec<(u32, u32, f64)> = serde_json::from_value(self.0["edges"].clone()).unwrap();
        Graph::from_edges(self.codes("labels").len(), &edges).unwrap()
    }
}

/// What scores need of an embedding.
struct Cells {
    embedding: Array2<f64>,
    labels: Vec<usize>,
    batches: Vec<usize>,
    neighbors: Neighbors,
    graph: Graph,
}

impl Cells {
    fn new(embedding: Array2<f64>, labels: &[usize], batches: &[usize]) -> Self {
        let k = LISI_NEIGHBORS.min(embedding.nrows());
        let neighbors = if k == 0 {
            Neighbors {
                indices: Array2::zeros((0, 0)),
                distances: Array2::zeros((0, 0)),
            }
        } else {
            nearest(embedding.view(), embedding.view(), k, Metric::Euclidean).unwrap()
        };
        Self {
            graph: ring(embedding.nrows()),
            embedding,
            labels: labels.to_vec(),
            batches: batches.to_vec(),
            neighbors,
        }
    }

    fn golden(golden: &Golden) -> Self {
        let cells = Self::new(
            golden.embedding(),
            &golden.codes("labels"),
            &golden.codes("batches"),
        );
        Self {
            graph: golden.graph(),
            ..cells
        }
    }

    fn inputs(&self) -> Integration<'_> {
        Integration {
            embedding: self.embedding.view(),
            labels: Some(&self.labels),
            batches: Some(&self.batches),
            neighbors: &self.neighbors,
            graph: &self.graph,
            kbet_graph: &self.graph,
            nmi: Some(0.5),
            ari: Some(0.4),
            pcr_before: Some(0.5),
            pcr_after: Some(0.1),
        }
    }

    fn scores(&self) -> Scores {
        score(&self.inputs()).unwrap()
    }
}

/// Each cell linked to the next, and the last to the first.
fn ring(cells: usize) -> Graph {
    let n = cells as u32;
    let closing = (n > 2).then(|| (n - 1, 0, 1.0));
    let edges: Vec<_> = (1..n).map(|i| (i - 1, i, 1.0)).chain(closing).collect();
    Graph::from_edges(cells, &edges).unwrap()
}

/// Standard normal points.
fn cloud(cells: usize, dimensions: usize) -> Array2<f64> {
    let mut stream = Seed(5).stream("cloud", &[]);
    Array2::from_shape_simple_fn((cells, dimensions), || normal_pair(&mut stream).0)
}

fn draw_codes(cells: usize, classes: usize, seed: u64) -> Vec<usize> {
    let mut stream = Seed(seed).stream("codes", &[]);
    (0..cells).map(|_| below(&mut stream, classes)).collect()
}

/// The original implementation computes in single precision.
#[track_caller]
fn assert_near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    assert!((found - expected).abs() < 2e-6, "{found} for {expected}");
}

#[test]
fn golden_scores() {
    let golden = Golden::read("integration.json");
    let scores = Cells::golden(&golden).scores();
    assert_near(scores.asw_label, golden.number("asw_label"));
    assert_near(scores.asw_batch, golden.number("asw_batch"));
    assert_near(
        scores.graph_connectivity,
        golden.number("graph_connectivity"),
    );
    assert_near(scores.ilisi, golden.number("ilisi"));
    assert_near(scores.clisi, golden.number("clisi"));
    assert_near(scores.isolated_labels, golden.number("isolated_labels"));
    assert_near(scores.kbet, golden.number("kbet"));
    assert_near(scores.pcr_comparison, 0.8);
    let bio = (0.5 + 0.4 + golden.number("asw_label")) / 3.0;
    let batch = (golden.number("asw_batch") + golden.number("graph_connectivity")) / 2.0;
    assert_near(scores.avg_bio, bio);
    assert_near(scores.avg_batch, batch);
    assert_near(scores.overall, 0.6 * bio + 0.4 * batch);
}

/// Scores by the original implementation of an embedding of its model (docs/methods.md, "Integration metrics").
#[test]
fn golden_metrics_integration() {
    let golden = Golden::read("integration_reference.json");
    let cells = Cells::golden(&golden);
    let variances = cells.embedding.var_axis(Axis(0), 1.0).to_vec();
    let pcr_after = regression::principal_component_regression(
        cells.embedding.view(),
        &variances,
        &cells.batches,
    );
    let inputs = Integration {
        nmi: Some(golden.number("NMI_cluster/label")),
        ari: Some(golden.number("ARI_cluster/label")),
        pcr_before: Some(golden.number("pcr_before")),
        pcr_after: pcr_after.unwrap(),
        ..cells.inputs()
    };
    let scores = score(&inputs).unwrap();
    assert_near(scores.asw_label, golden.number("ASW_label"));
    assert_near(scores.asw_batch, golden.number("ASW_label/batch"));
    assert_near(scores.graph_connectivity, golden.number("graph_conn"));
    assert_near(scores.pcr_after, golden.number("pcr_after"));
    assert_near(scores.pcr_comparison, golden.number("PCR_batch"));
    assert_near(scores.avg_bio, golden.number("avg_bio"));
    assert_near(scores.avg_batch, golden.number("avg_batch"));
}

#[test]
fn golden_scores_of_cells_and_labels() {
    let golden = Golden::read("integration.json");
    let cells = Cells::golden(&golden);
    let silhouettes = silhouette::samples(cells.embedding.view(), &cells.labels).unwrap();
    for (found, expected) in silhouettes
        .unwrap()
        .into_iter()
        .zip(golden.numbers("silhouettes"))
    {
        assert!(
            (found - expected.unwrap()).abs() < 3e-5,
            "{found} {expected:?}"
        );
    }
    let lisi = lisi::samples(&cells.neighbors, &cells.batches).unwrap();
    for (found, expected) in lisi.into_iter().zip(golden.numbers("lisi_batch")) {
        assert!(
            (found - expected.unwrap()).abs() < 3e-4,
            "{found} {expected:?}"
        );
    }
    let kbet = kbet::by_label(&cells.graph, &cells.labels, &cells.batches).unwrap();
    let expected = golden.numbers("kbet_by_label");
    assert_eq!(kbet.len(), expected.len());
    for (found, expected) in kbet.into_iter().zip(expected) {
        assert!(found == expected || (found.unwrap() - expected.unwrap()).abs() < 1e-12);
    }
}

#[test]
fn golden_regression_of_components() {
    // With all components the fraction does not depend on the axes, so the dimensions serve as components.
    let golden = Golden::read("integration.json");
    let embedding = golden.embedding();
    let variances = embedding.var_axis(Axis(0), 1.0).to_vec();
    let batches = golden.codes("batches");
    let explained =
        regression::principal_component_regression(embedding.view(), &variances, &batches);
    assert_near(explained.unwrap(), golden.number("pcr"));
    assert_eq!(regression::compare(0.25, 0.125), Some(0.5));
    assert_eq!(regression::compare(0.25, 0.5), Some(0.0));
    assert_eq!(regression::compare(0.0, 0.5), None);
}

#[test]
fn regression_of_components_weighs_variances() {
    // The first component is the batch, the second is the same in both batches, the third is constant.
    let scores = array![
        [1.0, 2.0, 7.0],
        [1.0, -2.0, 7.0],
        [-1.0, 2.0, 7.0],
        [-1.0, -2.0, 7.0]
    ];
    let explained = |variances: &[f64], batches: &[usize]| {
        regression::principal_component_regression(scores.view(), variances, batches).unwrap()
    };
    assert_eq!(explained(&[1.0, 3.0, 0.0], &[4, 4, 9, 9]), Some(0.25));
    assert_eq!(explained(&[1.0, 3.0, 0.0], &[4; 4]), None);
    assert_eq!(explained(&[0.0; 3], &[4, 4, 9, 9]), None);
}

#[test]
fn the_same_bytes_with_any_number_of_threads() {
    let (embedding, labels, batches) =
        (cloud(700, 9), draw_codes(700, 2, 1), draw_codes(700, 3, 2));
    let mut cells = Cells::new(embedding, &labels, &batches);
    cells.graph = Graph::connectivities(&cells.neighbors).unwrap();
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| cells.scores())
    };
    let scores = with_threads(1);
    assert_eq!(scores, with_threads(8));
    // Batches drawn at random are accepted, and as mixed as they can be.
    assert!(
        scores.kbet.unwrap() > 0.9 && scores.ilisi.unwrap() > 0.8,
        "{scores:?}"
    );
    assert!(scores.asw_batch.unwrap() > 0.95 && (scores.asw_label.unwrap() - 0.5).abs() < 0.01);
}

#[test]
fn silhouettes_across_tiles_equal_those_by_definition() {
    // More cells than one tile has columns, far from the origin, the last four of them equal.
    let mut embedding = cloud(1100, 5) + 1e4;
    let last = embedding.row(1099).to_owned();
    (1096..1099).for_each(|cell| embedding.row_mut(cell).assign(&last));
    let labels = draw_codes(1100, 3, 3);
    let found = silhouette::samples(embedding.view(), &labels)
        .unwrap()
        .unwrap();
    for cell in (0..1100).step_by(137).chain(1096..1100) {
        let mut sums = [0.0; 3];
        let mut counts = [0.0; 3];
        for (other, &label) in labels
            .iter()
            .enumerate()
            .filter(|&(other, _)| other != cell)
        {
            let difference = &embedding.row(cell) - &embedding.row(other);
            sums[label] += difference.dot(&difference).sqrt();
            counts[label] += 1.0;
        }
        let mean = |label: usize| sums[label] / counts[label];
        let own = labels[cell];
        let other = mean((own + 1) % 3).min(mean((own + 2) % 3));
        let expected = (other - mean(own)) / other.max(mean(own));
        assert!(
            (found[cell] - expected).abs() < 1e-9,
            "{} {expected}",
            found[cell]
        );
    }
}

#[test]
fn one_batch_or_one_label_or_neither() {
    let (embedding, two, one) = (cloud(40, 3), draw_codes(40, 2, 4), vec![7; 40]);
    let one_batch = Cells::new(embedding.clone(), &two, &one).scores();
    let Scores {
        ilisi,
        kbet,
        asw_batch,
        isolated_labels,
        ..
    } = one_batch;
    assert_eq!([ilisi, kbet, asw_batch, isolated_labels], [None; 4]);
    assert_eq!((one_batch.avg_batch, one_batch.overall), (None, None));
    assert!(one_batch.asw_label.is_some() && one_batch.avg_bio.is_some());
    let cells = Cells::new(embedding, &one, &two);
    let one_label = cells.scores();
    let Scores {
        asw_label,
        clisi,
        avg_bio,
        isolated_labels,
        ..
    } = one_label;
    assert_eq!([asw_label, clisi, avg_bio, isolated_labels], [None; 4]);
    assert_eq!(one_label.graph_connectivity, Some(1.0));
    assert!(one_label.kbet.is_some() && one_label.avg_batch.is_some());
    let inputs = Integration {
        labels: None,
        ..cells.inputs()
    };
    let unlabeled = score(&inputs).unwrap();
    assert_eq!(unlabeled.ilisi, one_label.ilisi);
    assert_eq!(
        (
            unlabeled.kbet,
            unlabeled.graph_connectivity,
            unlabeled.clisi
        ),
        (None, None, None)
    );
    let inputs = Integration {
        batches: None,
        ..cells.inputs()
    };
    assert_eq!(score(&inputs).unwrap().ilisi, None);
}

#[test]
fn a_batch_and_a_label_of_one_cell() {
    let mut labels = vec![0; 30];
    let mut batches = draw_codes(30, 2, 5);
    (labels[3], batches[8]) = (1, 2);
    let cells = Cells::new(cloud(30, 2), &labels, &batches);
    let silhouettes = silhouette::samples(cells.embedding.view(), &labels)
        .unwrap()
        .unwrap();
    assert_eq!(silhouettes[3], 0.0);
    // The cell's label is in one batch, the other label in three.
    assert_eq!(isolated::labels(&labels, &batches).unwrap(), [1]);
    let scores = cells.scores();
    assert_eq!(scores.isolated_labels, Some(0.5));
    // A label with one batch does not count.
    let batch = silhouette::samples(
        cells
            .embedding
            .select(Axis(0), &[0, 1, 2, 4, 5, 6, 7, 8, 9])
            .view(),
        &[0, 0, 0, 0, 1, 1, 1, 2, 1],
    );
    assert_eq!(batch.unwrap().unwrap()[7], 0.0);
    assert!(scores.asw_batch.is_some() && scores.kbet.is_some());
}

#[test]
fn isolated_labels_are_those_in_fewest_batches() {
    let labels = [5, 5, 2, 2, 9, 9, 9];
    assert_eq!(
        isolated::labels(&labels, &[0, 1, 0, 0, 1, 1, 2]).unwrap(),
        [2]
    );
    assert_eq!(
        isolated::labels(&labels, &[0, 1, 0, 1, 1, 1, 2]).unwrap(),
        [2, 5, 9]
    );
    let silhouettes = [0.9, 0.9, 0.2, 0.6, -1.0, -1.0, -1.0];
    let score = isolated::score(&silhouettes, &labels, &[0, 1, 0, 0, 1, 1, 2]);
    assert_near(score.unwrap(), 0.7);
}

#[test]
fn few_or_no_cells() {
    let none = Cells::new(Array2::zeros((0, 4)), &[], &[]).scores();
    let of_inputs = Scores {
        nmi: Some(0.5),
        ari: Some(0.4),
        pcr_before: Some(0.5),
        pcr_after: Some(0.1),
        pcr_comparison: Some(0.8),
        ..Scores::default()
    };
    assert_eq!(none, of_inputs);
    for (labels, batches) in [([0, 1], [0, 1]), ([0, 0], [0, 1]), ([0, 1], [0, 0])] {
        let two = Cells::new(array![[0.0], [1.0]], &labels, &batches).scores();
        assert_eq!(
            two,
            Scores {
                graph_connectivity: Some(1.0),
                ..of_inputs
            }
        );
    }
    assert!(
        Cells::new(array![[1.0]], &[0], &[0])
            .scores()
            .asw_batch
            .is_none()
    );
}

#[test]
fn equal_cells_are_neither_together_nor_apart() {
    let (labels, batches) = (draw_codes(60, 2, 6), draw_codes(60, 2, 7));
    let scores = Cells::new(Array2::from_elem((60, 3), 0.1), &labels, &batches).scores();
    assert_eq!((scores.asw_label, scores.asw_batch), (Some(0.5), Some(1.0)));
    assert_eq!(scores.isolated_labels, Some(0.5));
    let known = [
        scores.ilisi,
        scores.clisi,
        scores.kbet,
        scores.graph_connectivity,
    ];
    assert!(
        known
            .iter()
            .flatten()
            .all(|value| (0.0..=1.0).contains(value)),
        "{scores:?}"
    );
}

#[test]
fn graph_connectivity_is_the_fraction_of_the_largest_part() {
    // Label 0 is a path of three and a lone cell, label 1 has two cells without an edge between them.
    let graph = Graph::from_edges(6, &[(0, 1, 1.0), (1, 2, 0.1), (3, 4, 1.0), (3, 5, 1.0)]);
    let labels = [0, 0, 0, 0, 1, 1];
    assert_eq!(
        connectivity::score(&graph.unwrap(), &labels).unwrap(),
        Some((0.75 + 0.5) / 2.0)
    );
}

#[test]
fn kbet_of_parts() {
    // Two rings of 40 cells: one batch in each is rejected, both batches by turns are accepted.
    let edges = |n: u32, from: u32| (0..n).map(move |i| (from + i, from + (i + 1) % n, 1.0));
    let edges: Vec<_> = edges(40, 0).chain(edges(40, 40)).collect();
    let graph = Graph::from_edges(80, &edges).unwrap();
    let apart: Vec<usize> = (0..80).map(|cell| cell / 40).collect();
    let mixed: Vec<usize> = (0..80).map(|cell| cell % 2).collect();
    assert_eq!(kbet::score(&graph, &[0; 80], &apart).unwrap(), Some(0.0));
    assert_eq!(kbet::score(&graph, &[0; 80], &mixed).unwrap(), Some(1.0));
    // Weights count relative to each other only, however small.
    let mut small = graph.clone();
    small
        .weights
        .iter_mut()
        .for_each(|weight| *weight *= 1e-200);
    assert_eq!(kbet::score(&small, &[0; 80], &mixed).unwrap(), Some(1.0));
    // Parts of 20 cells are too small.
    let labels: Vec<usize> = (0..80).map(|cell| cell / 20 % 2).collect();
    assert_eq!(
        kbet::by_label(&graph, &labels, &mixed).unwrap(),
        [Some(0.0); 2]
    );
    // Three quarters in one part, all of one batch.
    let edges: Vec<_> = edges
        .into_iter()
        .filter(|edge| edge.0 < 39 && edge.1 < 40)
        .collect();
    let graph = Graph::from_edges(50, &edges).unwrap();
    assert_eq!(
        kbet::score(&graph, &[0; 50], &apart[..50]).unwrap(),
        Some(0.0)
    );
    assert_eq!(
        kbet::score(&graph, &[0; 50], &mixed[..50]).unwrap(),
        Some(1.0)
    );
}

#[test]
fn lisi_counts_classes_around_a_cell() {
    // Cells on a line: the left half has one class, the right half two by turns.
    let embedding = Array2::from_shape_fn((200, 1), |(cell, _)| cell as f64);
    let classes: Vec<usize> = (0..200)
        .map(|cell| if cell < 100 { 3 } else { 3 + cell % 2 })
        .collect();
    let near = nearest(embedding.view(), embedding.view(), 30, Metric::Euclidean).unwrap();
    let lisi = lisi::samples(&near, &classes).unwrap();
    assert!((lisi[30] - 1.0).abs() < 1e-12);
    // Weights exp(-beta |x|) with the entropy of ten cells have beta = e / 5; the cell's own class starts one step further away.
    let fraction = 1.0 / (1.0 + (std::f64::consts::E / 5.0).exp());
    let expected = 1.0 / (fraction * fraction + (1.0 - fraction) * (1.0 - fraction));
    assert!(
        (lisi[170] - expected).abs() < 0.02,
        "{} {expected}",
        lisi[170]
    );
    assert!(lisi.iter().all(|value| (1.0..2.0 + 1e-9).contains(value)));
    // Half of the cells have one class around them: the median is between.
    let score = lisi::clisi(&near, &classes).unwrap().unwrap();
    assert!(
        (0.0..=1.0).contains(&score) && lisi::ilisi(&near, &classes).unwrap() == Some(1.0 - score)
    );
}

#[test]
fn scores_survive_json() {
    let scores = Scores {
        kbet: Some(0.25),
        ..Scores::default()
    };
    let json = serde_json::to_string(&scores).unwrap();
    assert!(json.contains("\"asw_label\":null"));
    assert_eq!(serde_json::from_str::<Scores>(&json).unwrap(), scores);
}

#[test]
fn impossible_input_is_rejected() {
    let cells = Cells::new(cloud(20, 2), &draw_codes(20, 2, 8), &draw_codes(20, 2, 9));
    let fails = |change: fn(&mut Cells)| {
        let mut cells = Cells {
            embedding: cells.embedding.clone(),
            labels: cells.labels.clone(),
            batches: cells.batches.clone(),
            neighbors: cells.neighbors.clone(),
            graph: cells.graph.clone(),
        };
        change(&mut cells);
        score(&cells.inputs()).unwrap_err()
    };
    let one_per_cell = |error| matches!(error, Error::OnePerCell { .. });
    assert!(one_per_cell(fails(|cells| cells.labels.truncate(19))));
    assert!(one_per_cell(fails(|cells| cells.batches.truncate(19))));
    assert!(one_per_cell(fails(|cells| cells.graph = ring(19))));
    assert!(one_per_cell(fails(
        |cells| cells.neighbors.distances = Array2::zeros((19, 20))
    )));
    let narrow = |cells: &mut Cells| cells.neighbors.distances = Array2::zeros((20, 19));
    assert!(matches!(
        fails(narrow),
        Error::Columns {
            found: 19,
            expected: 20,
            ..
        }
    ));
    let unknown = fails(|cells| cells.neighbors.indices[[3, 3]] = 20);
    assert!(matches!(
        unknown,
        Error::NoSuchCell {
            found: 20,
            limit: 20,
            ..
        }
    ));
    let broken = fails(|cells| cells.graph.weights[0] = f64::NAN);
    assert!(matches!(broken, Error::Graph(_)));
    for value in [f64::NAN, f64::INFINITY] {
        let mut embedding = cells.embedding.clone();
        embedding[[1, 1]] = value;
        let inputs = Integration {
            embedding: embedding.view(),
            ..cells.inputs()
        };
        assert!(matches!(
            score(&inputs).unwrap_err(),
            Error::NotFinite { row: 1, .. }
        ));
        let of_components = regression::principal_component_regression(
            cells.embedding.view(),
            &[1.0, value],
            &cells.batches,
        );
        assert!(matches!(
            of_components,
            Err(Error::NotFinite { column: 1, .. })
        ));
    }
}
