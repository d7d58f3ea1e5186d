//! Initialization of the embeddings of genes and other features from the training cells.
//!
//! Features that vary together get similar embeddings. In a model from scratch, the correlations of each feature with the
//! principal components of the cells, projected to the embedding dimension by a random rotation, are added to its random
//! initialization. In a pre-trained model, features without an embedding start at the mean of the genes that they correlate with
//! most. Labels are not used.

use anyhow::Result;
use ndarray::{Array1, Array2, Axis};
use tch::{Tensor, no_grad};

use crate::analysis::projection::Pca;
use crate::model::Store;
use crate::random::{self, Seed};

/// Maximum number of cells used.
const MOST_CELLS: usize = 5_000;
const COMPONENTS: usize = 50;
/// Scale of the correlations relative to the random initialization, which is uniform in +-0.1.
const SCALE: f64 = 1.0;
/// Number of genes whose mean embedding initializes a new feature.
const NEAREST: usize = 10;

/// Adds the correlations of features with principal components of cells `[cells, features]` to their embeddings, which are rows
/// `ids` of the table.
pub fn start_from_components(
    cells: &Array2<f64>,
    ids: &[i64],
    store: &Store,
    seed: Seed,
) -> Result<()> {
    let pca = Pca::fit(cells.view(), COMPONENTS)?;
    let table = table(store);
    let width = table.size()[1];
    let added = rotate(&correlations(&pca, cells), width as usize, seed);
    let added = Tensor::from_slice(&added).view([-1, width]);
    let rows = Tensor::from_slice(ids).to_device(table.device());
    let added = added.to_device(table.device());
    let _ = no_grad(|| table.shallow_clone().index_add_(0, &rows, &added));
    Ok(())
}

/// Initializes the embeddings of new features with the mean of the known features most correlated in cells `[cells, features]`.
pub fn start_from_nearest(
    cells: &Array2<f64>,
    (known, new): (&[usize], &[usize]),
    ids: &[i64],
    store: &Store,
) -> Result<()> {
    if known.is_empty() || new.is_empty() {
        return Ok(());
    }
    let pca = Pca::fit(cells.view(), COMPONENTS)?;
    let mut directions = correlations(&pca, cells);
    for mut row in directions.rows_mut() {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row.mapv_inplace(|value| value / length);
        }
    }
    let table = table(store);
    let ids_of = |at: &usize| ids[*at];
    for &feature in new {
        let own: Array1<f64> = directions.row(feature).to_owned();
        let mut near: Vec<(f64, usize)> = known
            .iter()
            .map(|&gene| (own.dot(&directions.row(gene)), gene))
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let rows: Vec<i64> = near
            .iter()
            .take(NEAREST)
            .map(|(_, at)| ids_of(at))
            .collect();
        let rows = Tensor::from_slice(&rows).to_device(table.device());
        no_grad(|| {
            let mean = table
                .index_select(0, &rows)
                .mean_dim(0, false, table.kind());
            table.get(ids_of(&feature)).copy_(&mean);
        });
    }
    Ok(())
}

/// A random sample of the given cells, in their order.
pub fn some(cells: &[usize], seed: Seed) -> Vec<usize> {
    let mut stream = seed.stream("cells for components", &[]);
    let mut chosen = random::sample(&mut stream, cells.len(), MOST_CELLS);
    chosen.sort_unstable();
    chosen.into_iter().map(|i| cells[i]).collect()
}

fn table(store: &Store) -> &Tensor {
    let table = store.tensor("encoder.embedding.weight");
    table.expect("every model has gene embeddings")
}

/// Correlation of every feature with every component, `[features, components]`; 0 for a feature that does not vary.
fn correlations(pca: &Pca, cells: &Array2<f64>) -> Array2<f64> {
    let deviations = cells.std_axis(Axis(0), 1.0);
    let (components, features) = pca.components.dim();
    Array2::from_shape_fn((features, components), |(feature, k)| {
        let loading = pca.components[(k, feature)] * pca.explained_variance[k].sqrt();
        if deviations[feature] > 0.0 {
            loading / deviations[feature]
        } else {
            0.0
        }
    })
}

/// Projects the components to the embedding dimension by random directions, row by row.
fn rotate(correlations: &Array2<f64>, width: usize, seed: Seed) -> Vec<f32> {
    let components = correlations.ncols();
    let mut stream = seed.stream("directions of components", &[]);
    let directions =
        Array2::from_shape_fn((components, width), |_| random::normal_pair(&mut stream).0);
    correlations
        .dot(&directions)
        .iter()
        .map(|value| (value * SCALE) as f32)
        .collect()
}
