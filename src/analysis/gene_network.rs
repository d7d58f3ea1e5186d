//! Gene networks and programs from gene embeddings: cosine similarity, neighbors, edges, coherence, clusters.
//!
//! Embeddings are `[genes, dim]`, static or contextual. Products of tiles of unit vectors in f32 find the candidates;
//! what is reported is computed again in f64, pair by pair. So 60,000 genes need little beyond their embeddings, and neither tiles
//! nor threads change anything. The similarity with an embedding of zeros is 0.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, s};
use rayon::prelude::*;

use super::graph::Graph;
use super::leiden::leiden;
use super::neighbors::{Metric, nearest};
use super::{Error, require_finite, to_f64};
use crate::random::{Seed, sample};

/// Rows and columns of a tile of similarities: two megabytes.
const TILE: (usize, usize) = (512, 1024);
/// Error of a similarity in f32, at least.
const ROUNDING: f32 = 1e-4;

/// Gene embeddings scaled to length 1 (or 0).
#[derive(Debug, Clone)]
pub struct Directions {
    unit: Array2<f32>,
    /// 1 over the length that each row in f32 still has, and 0 for a row of zeros.
    scales: Vec<f64>,
}

/// A gene and its similarity with another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similar {
    pub gene: usize,
    /// Cosine of the angle between the two embeddings.
    pub similarity: f64,
}

/// Which of equally similar genes comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ties {
    /// The one with the lower index.
    #[default]
    LowerFirst,
    /// The one with the higher index, as in the original implementation (docs/methods.md, "Gene embeddings").
    HigherFirst,
}

/// Settings of a search for similar genes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Genes to find, or all if there are fewer.
    pub k: usize,
    /// Whether the gene itself is one of them.
    pub with_self: bool,
    pub ties: Ties,
}

/// A pair of similar genes; the first index is the lower one, or both are equal (a self loop).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    pub genes: (usize, usize),
    pub similarity: f64,
}

/// Which pairs are edges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The least similarity of an edge.
    pub similarity: f64,
    /// Whether every gene has an edge with itself.
    pub self_loops: bool,
    /// Edges at most.
    pub limit: usize,
}

/// Similarity of the genes of a set to each other, compared with random sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coherence {
    /// Mean similarity of the pairs of genes of the set.
    pub mean: f64,
    /// Mean of the same over the random sets; NaN without any.
    pub random_mean: f64,
    /// (r + 1) / (n + 1), if r of n random sets are at least as similar (Phipson and Smyth 2010).
    pub p_value: f64,
}

impl Directions {
    /// Fails on values that are not finite.
    pub fn new<T: Copy + Into<f64>>(vectors: ArrayView2<'_, T>) -> Result<Self, Error> {
        require_finite(vectors)?;
        let mut unit = Array2::zeros(vectors.dim());
        for (from, mut to) in vectors.rows().into_iter().zip(unit.rows_mut()) {
            // Divided by the largest value first, so that no square overflows.
            let values = || from.iter().map(|&value| value.into());
            let largest = values().fold(0.0, |most: f64, value: f64| most.max(value.abs()));
            if largest > 0.0 {
                let squares = values().map(|value| (value / largest).powi(2));
                let length = squares.sum::<f64>().sqrt();
                for (to, value) in to.iter_mut().zip(values()) {
                    *to = (value / largest / length) as f32;
                }
            }
        }
        let mut directions = Self {
            scales: vec![1.0; unit.nrows()],
            unit,
        };
        directions.scales = (0..directions.n_genes())
            .map(|gene| match directions.similarity(gene, gene) {
                square if square > 0.0 => 1.0 / square.sqrt(),
                _ => 0.0,
            })
            .collect();
        Ok(directions)
    }

    /// Number of genes.
    pub fn n_genes(&self) -> usize {
        self.unit.nrows()
    }

    /// Cosine similarity of two genes, to the precision of f32.
    ///
    /// Panics if there are no such genes.
    pub fn similarity(&self, a: usize, b: usize) -> f64 {
        let pairs = self.unit.row(a).into_iter().zip(self.unit.row(b));
        let product: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        product * (self.scales[a] * self.scales[b])
    }

    /// The most similar genes of each of the given genes, most similar first.
    ///
    /// Where more than `k` genes are equally similar to within the rounding of f32, those kept may be any of them, but always
    /// the same. Fails on a gene that is not there and if `k` is 0.
    pub fn most_similar(
        &self,
        genes: &[usize],
        search: Search,
    ) -> Result<Vec<Vec<Similar>>, Error> {
        self.require("a query gene", genes)?;
        if search.k == 0 {
            return Err(Error::Zero("similar genes"));
        }
        let blocks = genes.par_chunks(TILE.0);
        Ok(blocks
            .flat_map_iter(|genes| self.most_similar_of_block(genes, search))
            .collect())
    }

    fn most_similar_of_block(&self, genes: &[usize], search: Search) -> Vec<Vec<Similar>> {
        let rows = self.unit.select(ndarray::Axis(0), genes);
        let mut best: Vec<Best> = genes.iter().map(|_| Best::new(search)).collect();
        self.for_tiles(rows.view(), 0..self.n_genes(), |columns, tile| {
            for ((&gene, best), row) in genes.iter().zip(&mut best).zip(tile.rows()) {
                for (other, &similarity) in columns.clone().zip(row) {
                    if similarity >= best.least && (search.with_self || other != gene) {
                        best.add(other, similarity);
                    }
                }
            }
        });
        let found = genes.iter().zip(best);
        found
            .map(|(&gene, best)| self.finish(gene, best, search))
            .collect()
    }

    /// The candidates of one gene with exact similarities.
    fn finish(&self, gene: usize, mut best: Best, search: Search) -> Vec<Similar> {
        best.prune();
        let mut found: Vec<Similar> = best
            .found
            .into_iter()
            .map(|(other, _)| Similar {
                gene: other,
                similarity: self.similarity(gene, other),
            })
            .collect();
        found.sort_by(|a, b| {
            let order = b.similarity.total_cmp(&a.similarity);
            order.then_with(|| search.ties.order(a.gene, b.gene))
        });
        found
    }

    /// All pairs with at least the given similarity, by the lower and then the higher index.
    ///
    /// Fails, with their number, if there are more than the limit, and on a threshold that is NaN.
    pub fn edges(&self, threshold: Threshold) -> Result<Vec<Edge>, Error> {
        if threshold.similarity.is_nan() {
            return Err(Error::Setting {
                what: "the least similarity of an edge",
                found: threshold.similarity,
                expected: "a number",
            });
        }
        let found = AtomicUsize::new(0);
        let genes: Vec<usize> = (0..self.n_genes()).collect();
        let edges: Vec<Edge> = genes
            .par_chunks(TILE.0)
            .flat_map_iter(|genes| {
                let edges = self.edges_of_block(genes[0]..genes[0] + genes.len(), threshold);
                let before = found.fetch_add(edges.0, Atomic::Relaxed);
                let fits = before.saturating_add(edges.0) <= threshold.limit;
                if fits { edges.1 } else { Vec::new() }
            })
            .collect();
        match found.into_inner() {
            found if found > threshold.limit => Err(Error::ManyEdges {
                found,
                limit: threshold.limit,
                threshold: threshold.similarity,
            }),
            _ => Ok(edges),
        }
    }

    /// Number of the edges from some genes to themselves and later ones, and the edges if they are not too many.
    fn edges_of_block(&self, genes: Range<usize>, threshold: Threshold) -> (usize, Vec<Edge>) {
        let (mut count, mut edges) = (0, Vec::new());
        let rows = self.unit.slice(s![genes.clone(), ..]);
        let least = threshold.similarity as f32 - ROUNDING;
        self.for_tiles(rows, genes.start..self.n_genes(), |columns, tile| {
            for (a, row) in genes.clone().zip(tile.rows()) {
                for (b, &candidate) in columns.clone().zip(row) {
                    if candidate < least || b < a || (b == a && !threshold.self_loops) {
                        continue;
                    }
                    // Beyond the limit edges are only counted, and most need no second check for that.
                    let surely = candidate > least + 2.0 * ROUNDING;
                    if surely && count >= threshold.limit {
                        count += 1;
                        continue;
                    }
                    let similarity = self.similarity(a, b);
                    if similarity >= threshold.similarity {
                        count += 1;
                        if count <= threshold.limit {
                            let genes = (a, b);
                            edges.push(Edge { genes, similarity });
                        }
                    }
                }
            }
        });
        edges.sort_by_key(|edge| edge.genes);
        (count, edges)
    }

    /// Similarities in f32 of some rows with a range of genes, tile after tile.
    fn for_tiles(
        &self,
        rows: ArrayView2<'_, f32>,
        genes: Range<usize>,
        mut visit: impl FnMut(Range<usize>, ArrayView2<'_, f32>),
    ) {
        let mut tile = Array2::zeros((rows.nrows(), TILE.1));
        for start in genes.clone().step_by(TILE.1) {
            let columns = start..(start + TILE.1).min(genes.end);
            let others = self.unit.slice(s![columns.clone(), ..]);
            let mut tile = tile.slice_mut(s![.., ..columns.len()]);
            general_mat_mul(1.0, &rows, &others.t(), 0.0, &mut tile);
            visit(columns, tile.view());
        }
    }

    /// Mean similarity of the pairs of a set of genes, and how often random sets of as many genes of the background reach it.
    ///
    /// Genes given twice count once. Fails on genes that are not there, on a set of fewer than two genes and on a background
    /// smaller than the set.
    pub fn coherence(
        &self,
        set: &[usize],
        background: &[usize],
        random_sets: usize,
        seed: Seed,
    ) -> Result<Coherence, Error> {
        self.require("a gene of the set", set)?;
        self.require("a gene of the background", background)?;
        let (set, background) = (distinct(set), distinct(background));
        require_at_least("the coherence of a set", 2, set.len())?;
        require_at_least("the background of a set", set.len(), background.len())?;
        let mean = self.mean_similarity(&set);
        let random: Vec<f64> = (0..random_sets as u64)
            .into_par_iter()
            .map(|at| {
                let mut stream = seed.stream("random gene sets", &[at]);
                let drawn = sample(&mut stream, background.len(), set.len());
                let drawn: Vec<usize> = drawn.into_iter().map(|at| background[at]).collect();
                self.mean_similarity(&distinct(&drawn))
            })
            .collect();
        let reached = random.iter().filter(|&&value| value >= mean).count();
        Ok(Coherence {
            mean,
            random_mean: random.iter().sum::<f64>() / random_sets as f64,
            p_value: (reached + 1) as f64 / (random_sets + 1) as f64,
        })
    }

    /// Of all pairs of at least two genes: from the square of the sum of their vectors, less the squares of each.
    fn mean_similarity(&self, genes: &[usize]) -> f64 {
        let mut sum = vec![0.0; self.unit.ncols()];
        for &gene in genes {
            let scale = self.scales[gene];
            let row = sum.iter_mut().zip(self.unit.row(gene));
            row.for_each(|(sum, &value)| *sum += scale * f64::from(value));
        }
        let square: f64 = sum.iter().map(|value| value * value).sum();
        let own = genes
            .iter()
            .filter(|&&gene| self.scales[gene] > 0.0)
            .count();
        (square - own as f64) / (genes.len() * (genes.len() - 1)) as f64
    }

    fn require(&self, what: &'static str, genes: &[usize]) -> Result<(), Error> {
        match genes.iter().find(|&&gene| gene >= self.n_genes()) {
            Some(&found) => Err(Error::NoSuchGene {
                what,
                found,
                limit: self.n_genes(),
            }),
            None => Ok(()),
        }
    }
}

fn require_at_least(what: &'static str, needed: usize, found: usize) -> Result<(), Error> {
    if found >= needed {
        return Ok(());
    }
    Err(Error::FewGenes {
        what,
        needed,
        found,
    })
}

/// Increasing, each gene once: equal sets have equal sums.
fn distinct(genes: &[usize]) -> Vec<usize> {
    let mut genes = genes.to_vec();
    genes.sort_unstable();
    genes.dedup();
    genes
}

impl Ties {
    fn order(self, a: usize, b: usize) -> Ordering {
        match self {
            Self::LowerFirst => a.cmp(&b),
            Self::HigherFirst => b.cmp(&a),
        }
    }
}

/// The most similar genes so far, at most twice as many as are wanted.
struct Best {
    search: Search,
    found: Vec<(usize, f32)>,
    /// Genes below this similarity are not among them.
    least: f32,
}

impl Best {
    fn new(search: Search) -> Self {
        Self {
            search,
            found: Vec::new(),
            least: f32::NEG_INFINITY,
        }
    }

    fn add(&mut self, gene: usize, similarity: f32) {
        self.found.push((gene, similarity));
        if self.found.len() >= self.search.k.saturating_mul(2) {
            self.prune();
        }
    }

    fn prune(&mut self) {
        let (k, ties) = (self.search.k, self.search.ties);
        if self.found.len() > k {
            self.found.select_nth_unstable_by(k - 1, |a, b| {
                b.1.total_cmp(&a.1).then_with(|| ties.order(a.0, b.0))
            });
            self.found.truncate(k);
            self.least = self.found[k - 1].1;
        }
    }
}

/// Settings of the clustering into gene programs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProgramSettings {
    /// Nearest genes in the graph, each gene's own included (original implementation: 15).
    pub neighbors: usize,
    /// Resolution of the Leiden algorithm (original implementation: 40 for 1,200 genes).
    pub resolution: f64,
    /// Genes of the smallest cluster that is a program (original implementation: 5).
    pub min_genes: usize,
    pub seed: u64,
}

/// Clusters of genes.
#[derive(Debug, Clone, PartialEq)]
pub struct Programs {
    /// Cluster of each gene, numbered by decreasing size.
    pub clusters: Vec<usize>,
    /// Genes of the clusters that are large enough, largest first; each has its cluster's number.
    pub programs: Vec<Vec<usize>>,
}

/// Clusters genes by the Leiden algorithm on UMAP's graph of their nearest neighbors by Euclidean distance (docs/methods.md,
/// "Gene programs").
///
/// Fails on values that are not finite, without genes or neighbors, and on a resolution that is negative or not finite.
pub fn programs<T: Copy + Into<f64>>(
    vectors: ArrayView2<'_, T>,
    settings: ProgramSettings,
) -> Result<Programs, Error> {
    require_at_least("a search for programs", 1, vectors.nrows())?;
    if settings.neighbors == 0 {
        return Err(Error::Zero("neighbors"));
    }
    let vectors = to_f64(vectors);
    require_finite(vectors.view())?;
    let found = nearest(
        vectors.view(),
        vectors.view(),
        settings.neighbors,
        Metric::Euclidean,
    )?;
    let graph = Graph::connectivities(&found)?;
    let clusters = leiden(&graph, settings.resolution, settings.seed)?;
    let n_clusters = clusters.iter().max().map_or(0, |last| last + 1);
    let mut programs = vec![Vec::new(); n_clusters];
    for (gene, &cluster) in clusters.iter().enumerate() {
        programs[cluster].push(gene);
    }
    programs.retain(|genes| genes.len() >= settings.min_genes);
    Ok(Programs { clusters, programs })
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use serde_json::Value;

    use super::*;
    use crate::analysis::agreement::adjusted_rand;
    use crate::analysis::on_threads;
    use crate::random::normal_pair;

    fn golden() -> (Array2<f32>, Value) {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/analysis/gene_network.json"
        );
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let rows: Vec<Vec<f32>> = serde_json::from_value(golden["vectors"].clone()).unwrap();
        let shape = (rows.len(), rows[0].len());
        let vectors = Array2::from_shape_vec(shape, rows.into_iter().flatten().collect());
        (vectors.unwrap(), golden)
    }

    fn field<T: serde::de::DeserializeOwned>(golden: &Value, field: &str) -> T {
        serde_json::from_value(golden[field].clone()).unwrap()
    }

    fn random_vectors(genes: usize, width: usize) -> Array2<f32> {
        let mut stream = Seed(1).stream("test", &[]);
        Array2::from_shape_simple_fn((genes, width), || normal_pair(&mut stream).0 as f32)
    }

    fn search(k: usize) -> Search {
        Search {
            k,
            with_self: false,
            ties: Ties::LowerFirst,
        }
    }

    fn threshold(similarity: f64) -> Threshold {
        Threshold {
            similarity,
            self_loops: false,
            limit: 1_000_000,
        }
    }

    #[test]
    fn nearest_genes_are_those_of_the_reference() {
        let (vectors, golden) = golden();
        let expected: Vec<(usize, f64)> = field(&golden, "nearest");
        let search = Search {
            k: expected.len(),
            with_self: true,
            ties: Ties::HigherFirst,
        };
        let directions = Directions::new(vectors.view()).unwrap();
        let found = &directions.most_similar(&[0], search).unwrap()[0];
        for (found, (gene, similarity)) in found.iter().zip(expected) {
            assert_eq!(found.gene, gene);
            assert!((found.similarity - similarity).abs() < 1e-6);
        }
    }

    #[test]
    fn edges_are_those_of_the_reference() {
        let (vectors, golden) = golden();
        let directions = Directions::new(vectors.view()).unwrap();
        let wanted = Threshold {
            self_loops: true,
            ..threshold(0.5)
        };
        let found = directions.edges(wanted).unwrap();
        let found: Vec<_> = found.iter().map(|edge| edge.genes).collect();
        let mut expected: Vec<(usize, usize)> = field(&golden, "edges");
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn clusters_are_those_of_the_reference() {
        let (vectors, golden) = golden();
        for (resolution, name) in [(1.0, "clusters_1"), (5.0, "clusters_5")] {
            let settings = ProgramSettings {
                neighbors: 15,
                resolution,
                min_genes: 5,
                seed: 0,
            };
            let found = programs(vectors.view(), settings).unwrap();
            let expected: Vec<usize> = field(&golden, name);
            let agreement = adjusted_rand(&found.clusters, &expected);
            println!("{name}: adjusted Rand index {agreement}");
            assert!(agreement > 0.95, "{name}: {agreement}");
            let sizes: Vec<usize> = found.programs.iter().map(Vec::len).collect();
            assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes.iter().all(|&size| size >= 5));
        }
    }

    #[test]
    fn all_tiles_together_find_what_comparing_all_pairs_finds() {
        let vectors = random_vectors(1500, 8);
        let directions = Directions::new(vectors.view()).unwrap();
        let genes: Vec<usize> = (0..1500).step_by(7).collect();
        let found = directions.most_similar(&genes, search(5)).unwrap();
        for (&gene, found) in genes.iter().zip(&found) {
            let mut all: Vec<(f64, usize)> = (0..1500)
                .filter(|&other| other != gene)
                .map(|other| (directions.similarity(gene, other), other))
                .collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let found: Vec<_> = found.iter().map(|f| (f.similarity, f.gene)).collect();
            assert_eq!(found, all[..5]);
        }
        let pairs = (0..1500).flat_map(|a| (a + 1..1500).map(move |b| (a, b)));
        let above = pairs.filter(|&(a, b)| directions.similarity(a, b) >= 0.8);
        let edges = directions.edges(threshold(0.8)).unwrap();
        assert!(edges.len() > 1000);
        assert!(edges.iter().map(|edge| edge.genes).eq(above));
    }

    #[test]
    fn equally_similar_genes_are_ordered_by_index() {
        let vectors = array![[1.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.5, 0.0], [0.0, 3.0]];
        let directions = Directions::new(vectors.view()).unwrap();
        let genes = |ties| {
            let search = Search {
                k: 9,
                with_self: true,
                ties,
            };
            let found = directions.most_similar(&[0], search).unwrap();
            found[0].iter().map(|f| f.gene).collect::<Vec<_>>()
        };
        assert_eq!(genes(Ties::LowerFirst), [0, 1, 3, 2, 4]);
        assert_eq!(genes(Ties::HigherFirst), [3, 1, 0, 4, 2]);
        assert_eq!(directions.similarity(2, 2), 0.0);
    }

    #[test]
    fn too_many_edges_are_counted_not_listed() {
        let directions = Directions::new(Array2::<f32>::ones((300, 4)).view()).unwrap();
        let limited = |limit| {
            directions.edges(Threshold {
                limit,
                ..threshold(0.9)
            })
        };
        let all = 300 * 299 / 2;
        let (found, limit) = (all, all - 1);
        let threshold = 0.9;
        let error = Error::ManyEdges {
            found,
            limit,
            threshold,
        };
        assert_eq!(limited(limit), Err(error));
        assert_eq!(limited(all).unwrap().len(), all);
    }

    #[test]
    fn a_planted_block_is_coherent_and_a_random_set_is_not() {
        let (vectors, _) = golden();
        let directions = Directions::new(vectors.view()).unwrap();
        let all: Vec<usize> = (0..200).collect();
        let run = |set: &[usize]| directions.coherence(set, &all, 199, Seed(5)).unwrap();
        let block: Vec<usize> = (0..10).map(|at| 8 * at).collect();
        let found = run(&block);
        let pairs = block
            .iter()
            .flat_map(|&a| block.iter().map(move |&b| (a, b)));
        let sum: f64 = pairs
            .filter(|(a, b)| a < b)
            .map(|(a, b)| directions.similarity(a, b))
            .sum();
        assert!((found.mean - sum / 45.0).abs() < 1e-12);
        assert!(found.p_value == 1.0 / 200.0 && found.random_mean < found.mean / 2.0);
        assert!(run(&[0, 1, 2, 3, 4, 5, 6, 7]).p_value > 0.05);
        // Every random set is the set itself.
        let same = directions
            .coherence(&[3, 1, 2], &[1, 2, 3], 9, Seed(0))
            .unwrap();
        assert_eq!(same.p_value, 1.0);
    }

    #[test]
    fn threads_change_nothing() {
        let vectors = random_vectors(700, 16);
        let run = |threads| {
            on_threads(threads, || {
                let directions = Directions::new(vectors.view()).unwrap();
                let genes: Vec<usize> = (0..700).collect();
                (
                    directions.most_similar(&genes, search(3)).unwrap(),
                    directions.edges(threshold(0.5)).unwrap(),
                    directions
                        .coherence(&genes[..9], &genes, 50, Seed(0))
                        .unwrap(),
                )
            })
        };
        assert_eq!(run(1), run(8));
    }

    #[test]
    fn bad_input_is_rejected_and_extreme_values_are_not_bad() {
        let directions = Directions::new(array![[1e300, 1e300], [1e-300, 0.0]].view()).unwrap();
        assert!((directions.similarity(0, 1) - 0.5_f64.sqrt()).abs() < 1e-7);
        assert!(Directions::new(array![[f64::NAN]].view()).is_err());
        assert!(directions.most_similar(&[2], search(1)).is_err());
        assert!(directions.most_similar(&[0], search(0)).is_err());
        assert!(directions.edges(threshold(f64::NAN)).is_err());
        let coherence =
            |set: &[usize], background: &[usize]| directions.coherence(set, background, 1, Seed(0));
        assert!(matches!(
            coherence(&[0, 0], &[0, 1]),
            Err(Error::FewGenes { .. })
        ));
        assert!(matches!(
            coherence(&[0, 1], &[0]),
            Err(Error::FewGenes { .. })
        ));
        assert!(matches!(
            coherence(&[0, 9], &[0]),
            Err(Error::NoSuchGene { .. })
        ));
        let none = Directions::new(Array2::<f32>::zeros((0, 3)).view()).unwrap();
        assert!(none.edges(threshold(0.0)).unwrap().is_empty());
        assert!(none.most_similar(&[], search(1)).unwrap().is_empty());
        let settings = ProgramSettings {
            neighbors: 15,
            resolution: 1.0,
            min_genes: 1,
            seed: 0,
        };
        assert!(programs(Array2::<f32>::zeros((0, 3)).view(), settings).is_err());
        let one = programs(Array2::<f32>::zeros((1, 3)).view(), settings).unwrap();
        assert_eq!(one.programs, [[0]]);
    }
}
