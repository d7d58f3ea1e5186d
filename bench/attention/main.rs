//! Time of rank-based attention per cell, compared with the original method on the same libtorch: `cargo bench --bench attention`.
//!
//! Both pass the cell through the same encoder. The original implementation then holds the scores of all heads and ranks them by
//! sorting twice along the keys and twice along the queries; see README.md.

use std::time::Instant;

use scgpt_tools::checkpoint::{Architecture, InputStyle};
use scgpt_tools::model::{Genes, Heads, Inputs, Model, Noise, Store};
use scgpt_tools::predict::attention::Ranks;
use scgpt_tools::random::Seed;
use tch::{Device, Kind, Tensor, no_grad};

const TOKENS: usize = 1201;
const CELLS: usize = 5;

fn architecture() -> Architecture {
    Architecture {
        embsize: 512,
        nheads: 8,
        d_hid: 512,
        nlayers: 12,
        n_layers_cls: 3,
        dropout: 0.0,
        pad_token: "<pad>".into(),
        pad_value: -2,
        mask_value: -1,
        n_bins: 51,
        input_emb_style: InputStyle::Continuous,
        max_seq_len: TOKENS,
    }
}

/// A cell with different values for every number.
fn cell(number: usize) -> Inputs {
    let genes: Vec<i64> = (0..TOKENS as i64).collect();
    let values: Vec<f32> = (0..TOKENS)
        .map(|at| ((at * (number + 7)) % 51) as f32)
        .collect();
    Inputs::new([(&genes[..], &values[..])].into_iter(), Device::Cpu)
}

/// Mean rank over heads, `[queries, keys]`, with all scores in memory and sorts of sorts.
fn by_sorting(model: &Model, cell: &Inputs, layer: usize) -> Tensor {
    no_grad(|| {
        let (_, embedded) = model.embed(cell, None, &mut Noise::off());
        let found = model
            .transformer()
            .queries_and_keys(&embedded, &cell.sequences, &[layer]);
        let heads_first = |t: &Tensor| t.transpose(0, 1);
        let scores = heads_first(&found[0][0]).matmul(&heads_first(&found[0][1]).transpose(1, 2));
        let rank = |t: &Tensor, along: i64| {
            let order = t.argsort_stable(true, along, false);
            order
                .argsort_stable(true, along, false)
                .to_kind(Kind::Float)
                / TOKENS as f64
        };
        rank(&rank(&scores, 2), 1).mean_dim([0i64].as_slice(), false, Kind::Float)
    })
}

/// Only the pass through the encoder.
fn encoder(model: &Model, cell: &Inputs, layer: usize) {
    no_grad(|| {
        let (_, embedded) = model.embed(cell, None, &mut Noise::off());
        model
            .transformer()
            .queries_and_keys(&embedded, &cell.sequences, &[layer]);
    });
}

fn seconds(mut work: impl FnMut(usize)) -> f64 {
    let clock = Instant::now();
    (0..CELLS).for_each(&mut work);
    clock.elapsed().as_secs_f64() / CELLS as f64
}

fn main() {
    tch::set_num_threads(1);
    let mut store = Store::new(Seed(1), Device::Cpu);
    let genes = Genes {
        rows: TOKENS as i64,
        pad: None,
    };
    let model = Model::new(&mut store, &architecture(), genes, Heads::NONE);
    let layer = architecture().nlayers - 1;
    let cells: Vec<Inputs> = (0..CELLS).map(cell).collect();
    encoder(&model, &cells[0], layer);
    let pass = seconds(|at| encoder(&model, &cells[at], layer));
    let ours = seconds(|at| drop(Ranks::of(&model, &cells[at], &[layer])));
    let theirs = seconds(|at| drop(by_sorting(&model, &cells[at], layer)));
    println!("{TOKENS} tokens, 12 layers, embedding dimension 512, one thread, seconds per cell");
    println!("encoder alone      {pass:.3}");
    println!("ranks in blocks    {ours:.3}");
    println!("sorting twice      {theirs:.3}");
    println!(
        "ratio {:.2}; ranking only {:.2}",
        theirs / ours,
        (theirs - pass) / (ours - pass)
    );
}
