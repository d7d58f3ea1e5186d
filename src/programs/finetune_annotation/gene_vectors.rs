//! Where the gene vectors of a model from scratch start: at what the training cells say of the genes.
//!
//! Genes that vary together get similar vectors: each gene's correlations with the principal components of the training
//! cells, spread over the width of the model by a random rotation, are added to its random start. Labels play no part.

use anyhow::Result;
use ndarray::Array2;
use tch::{Tensor, no_grad};

use super::data::Data;
use crate::analysis::projection::Pca;
use crate::expression::normalise::{Target, log1p, normalise_total};
use crate::model::Store;
use crate::random::{self, Seed};

/// Cells looked at, at most.
const MOST_CELLS: usize = 5_000;
const COMPONENTS: usize = 50;
/// Size of the correlations beside the random start, whose elements are uniform in +-0.1.
const SCALE: f64 = 1.0;

/// Adds the genes' correlations with principal components to their vectors.
pub fn start_from_components(data: &Data, store: &Store, seed: Seed) -> Result<()> {
    let cells = log_values(data, seed)?;
    let pca = Pca::fit(cells.view(), COMPONENTS)?;
    let table = store
        .tensor("encoder.embedding.weight")
        .expect("every model has gene vectors");
    let width = table.size()[1] as usize;
    let added = rotate(&correlations(&pca, &cells), width, seed);
    let rows: Vec<i64> = data
        .genes
        .iter()
        .map(|gene| i64::from(data.vocabulary.id(gene).unwrap_or(0)))
        .collect();
    let added = Tensor::from_slice(&added)
        .view([-1, width as i64])
        .to_device(table.device());
    let rows = Tensor::from_slice(&rows).to_device(table.device());
    let _ = no_grad(|| table.shallow_clone().index_add_(0, &rows, &added));
    Ok(())
}

/// Log-normalised values of some training cells, `[cells, genes]`.
fn log_values(data: &Data, seed: Seed) -> Result<Array2<f64>> {
    let training = &data.split.training;
    let mut chosen = random::sample(
        &mut seed.stream("cells for components", &[]),
        training.len(),
        MOST_CELLS,
    );
    chosen.sort_unstable();
    let chosen: Vec<usize> = chosen.into_iter().map(|i| training[i]).collect();
    let mut counts = data.counts.select_cells(&chosen);
    if data.is_linear {
        normalise_total(&mut counts, Target::Sum(1e4))?;
        log1p(&mut counts)?;
    }
    let mut dense = Array2::zeros((counts.n_cells(), counts.n_genes));
    for (mut row, (genes, values)) in dense.rows_mut().into_iter().zip(counts.rows()) {
        genes
            .iter()
            .zip(values)
            .for_each(|(&gene, &value)| row[gene as usize] = f64::from(value));
    }
    Ok(dense)
}

/// Correlation of every gene with every component, `[genes, components]`; 0 for a gene that does not vary.
fn correlations(pca: &Pca, cells: &Array2<f64>) -> Array2<f64> {
    let deviations = cells.std_axis(ndarray::Axis(0), 1.0);
    let (components, genes) = pca.components.dim();
    Array2::from_shape_fn((genes, components), |(gene, k)| {
        let loading = pca.components[(k, gene)] * pca.explained_variance[k].sqrt();
        if deviations[gene] > 0.0 {
            loading / deviations[gene]
        } else {
            0.0
        }
    })
}

/// Spreads the components over the width by random directions, row by row.
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
