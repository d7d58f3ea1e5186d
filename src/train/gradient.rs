//! Gradient of a minibatch, computed in shards on several threads; the result does not depend on the number of threads.

use super::all_reduce::add_up;
use super::objective::{At, ForwardOutput, Objective, Pass, Term, Totals};
use crate::distributed::Ranks;
use crate::model::{Flat, Noise, Store};
use crate::random::Seed;
use anyhow::Result;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Kind, Tensor, no_grad};

/// One thread's handles on the shared weights.
struct Worker<M> {
    store: Store,
    model: M,
    /// Trainable parameters.
    parameters: Vec<Tensor>,
}

/// Computes losses and gradients of minibatches.
pub struct Gradient<'o, O: Objective> {
    objective: &'o O,
    ranks: &'o dyn Ranks,
    workers: Vec<Worker<O::Model>>,
    /// Views of the flat buffer, one for the gradient of each trainable parameter.
    slots: Mutex<Vec<Tensor>>,
    /// Cells per shard. Part of the definition of a run: sums of floats depend on it.
    shard: usize,
    forward_settings: ForwardSettings,
}

/// Settings of the forward pass of a shard.
#[derive(Clone, Copy)]
struct ForwardSettings {
    kind: Kind,
    seed: Seed,
    dropout: f64,
}

/// Statistics of a minibatch that are known before its forward pass.
struct MinibatchStats {
    totals: Totals,
    pass: Pass,
    batch_statistics: Option<Mutex<Tensor>>,
}

/// A shard after its forward pass.
struct Forward {
    part: ForwardOutput,
    /// Its own handle on the batch statistics, through which gradients flow.
    batch_statistics: Option<Tensor>,
}

/// A shard after its forward pass, and the gradient of the losses between cells with respect to its embeddings.
type Pulled = (Forward, Vec<Tensor>);

/// The loss of a minibatch, its terms and its tallies by name, as plain numbers.
pub type Figures = Vec<(&'static str, f64)>;

impl<'o, O: Objective> Gradient<'o, O> {
    pub fn new(
        objective: &'o O,
        store: &Store,
        flat: &Flat,
        settings: Settings,
        ranks: &'o dyn Ranks,
    ) -> Self {
        let trainable = |store: &Store| {
            store
                .parameters()
                .values()
                .filter(|t| t.requires_grad())
                .map(Tensor::shallow_clone)
                .collect::<Vec<_>>()
        };
        let worker = |_| {
            let mut store = store.share();
            Worker {
                model: objective.model(&mut store),
                parameters: trainable(&store),
                store,
            }
        };
        let workers = (0..settings.threads.max(1)).map(worker).collect();
        let Settings {
            shard,
            kind,
            seed,
            dropout,
            ..
        } = settings;
        Self {
            objective,
            ranks,
            workers,
            slots: Mutex::new(slots(store, flat)),
            shard,
            forward_settings: ForwardSettings {
                kind,
                seed,
                dropout,
            },
        }
    }

    /// The losses of a minibatch, of which this rank has the given examples. In training their gradient is added to the flat
    /// buffer.
    ///
    /// Losses between cells are taken over the cells of one rank.
    pub fn minibatch(&mut self, examples: &[O::Example], pass: Pass) -> Result<Figures> {
        let mut totals = self.objective.totals(examples);
        totals.add_up(self.ranks)?;
        let batch_statistics = self.batch_statistics(examples, pass)?;
        let pulled = batch_statistics.as_ref().map(Tensor::zeros_like);
        let at = MinibatchStats {
            totals,
            pass,
            batch_statistics: batch_statistics
                .as_ref()
                .map(|s| Mutex::new(s.shallow_clone())),
        };
        let mut figures = if self.objective.has_batch_loss() {
            self.coupled(examples, &at, pulled.as_ref())
        } else {
            self.separate(examples, &at, pulled.as_ref())
        };
        if let (Some(batch_statistics), Some(mut pulled)) = (&batch_statistics, pulled) {
            add_up(self.ranks, &mut pulled)?;
            self.pull_batch_statistics(examples, pass, pulled);
            self.objective
                .update_running_statistics(&self.workers[0].model, batch_statistics);
        }
        let mut numbers: Vec<f64> = figures.iter().map(|(_, value)| *value).collect();
        self.ranks.sum_f64(&mut numbers)?;
        figures
            .iter_mut()
            .zip(numbers)
            .for_each(|((_, value), sum)| *value = sum);
        Ok(figures)
    }

    /// Statistics over all cells of a training minibatch that the forward pass needs.
    fn batch_statistics(&mut self, examples: &[O::Example], pass: Pass) -> Result<Option<Tensor>> {
        if !self.objective.has_batch_statistics() || pass == Pass::Evaluation {
            return Ok(None);
        }
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, settings) = (self.objective, self.forward_settings);
        let found = in_parallel(&mut self.workers, shards.len(), |worker, i| {
            no_grad(|| batch_statistics(objective, worker, shards[i], (settings, pass, i)))
        });
        let sum = found.into_iter().flatten().reduce(|sum, part| sum + part);
        sum.map(|mut sum| add_up(self.ranks, &mut sum).map(|()| sum))
            .transpose()
    }

    /// Adds the gradient through the batch statistics, which are computed again.
    fn pull_batch_statistics(&mut self, examples: &[O::Example], pass: Pass, pulled: Tensor) {
        let pulled = Mutex::new(pulled);
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, settings) = (self.objective, self.forward_settings);
        let sums = InOrder::new(&self.slots, None);
        in_parallel(&mut self.workers, shards.len(), |worker, i| {
            let found = batch_statistics(objective, worker, shards[i], (settings, pass, i));
            if let Some(found) = found {
                let pulled = pulled.lock().expect("no worker panicked").shallow_clone();
                let loss = (found * pulled).sum(Kind::Float);
                sums.add(
                    i,
                    Tensor::run_backward(&[loss], &worker.parameters, false, false),
                );
            }
        });
    }

    /// Forward and backward of every shard at once: no more than one shard per thread is in memory.
    fn separate(
        &mut self,
        examples: &[O::Example],
        at: &MinibatchStats,
        pulled: Option<&Tensor>,
    ) -> Figures {
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, settings) = (self.objective, self.forward_settings);
        let sums = InOrder::new(&self.slots, pulled);
        let figures = in_parallel(&mut self.workers, shards.len(), |worker, i| {
            let Forward {
                part,
                batch_statistics,
            } = forward(objective, worker, shards[i], (at, settings, i));
            if matches!(at.pass, Pass::Training(_)) {
                sums.add(i, backward(total(&part.terms), worker, batch_statistics));
            }
            figures(&part.terms, &part.tallies, &at.totals)
        });
        merge(figures)
    }

    /// Forward of every shard, the losses between their cells, then backward of every shard.
    fn coupled(
        &mut self,
        examples: &[O::Example],
        at: &MinibatchStats,
        pulled: Option<&Tensor>,
    ) -> Figures {
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, settings) = (self.objective, self.forward_settings);
        let done = in_parallel(&mut self.workers, shards.len(), |worker, i| {
            forward(objective, worker, shards[i], (at, settings, i))
        });
        let parts = || done.iter().map(|forward| &forward.part);
        let (terms, pulls) = batch_loss(objective, &parts().collect::<Vec<_>>(), at.pass);
        let mut all: Vec<Figures> = parts()
            .map(|part| figures(&part.terms, &part.tallies, &at.totals))
            .collect();
        all.push(figures(&terms, &[], &at.totals));
        if matches!(at.pass, Pass::Training(_)) {
            let sums = InOrder::new(&self.slots, pulled);
            let work: Vec<Mutex<Option<Pulled>>> = done
                .into_iter()
                .zip(pulls)
                .map(|shard| Mutex::new(Some(shard)))
                .collect();
            in_parallel(&mut self.workers, work.len(), |worker, i| {
                let taken = work[i].lock().expect("no worker panicked").take();
                let (
                    Forward {
                        part,
                        batch_statistics,
                    },
                    pull,
                ) = taken.expect("each shard is taken once");
                let pulled = part
                    .embeddings
                    .iter()
                    .zip(&pull)
                    .map(|(e, p)| (e * p).sum(Kind::Float));
                let loss = pulled.fold(total(&part.terms), |sum, pulled| sum + pulled);
                sums.add(i, backward(loss, worker, batch_statistics));
            });
        }
        merge(all)
    }
}

/// Gradients of a loss with respect to the trainable parameters and the batch statistics.
fn backward<M>(loss: Tensor, worker: &Worker<M>, batch_statistics: Option<Tensor>) -> Vec<Tensor> {
    let inputs: Vec<&Tensor> = worker.parameters.iter().chain(&batch_statistics).collect();
    Tensor::run_backward(&[loss], &inputs, false, false)
}

/// Settings of the computation of minibatches.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub threads: usize,
    pub shard: usize,
    /// Number format of the forward and backward passes.
    pub kind: Kind,
    pub seed: Seed,
    pub dropout: f64,
}

/// Views of the flat gradient, one for each trainable parameter.
fn slots(store: &Store, flat: &Flat) -> Vec<Tensor> {
    let mut start = 0;
    let mut slots = Vec::new();
    for tensor in store.parameters().values() {
        let length = tensor.numel() as i64;
        if tensor.requires_grad() {
            slots.push(
                flat.gradients
                    .narrow(0, start, length)
                    .view(tensor.size().as_slice()),
            );
        }
        start += length;
    }
    slots
}

fn noise(pass: Pass, settings: ForwardSettings, shard: usize) -> Noise {
    match pass {
        Pass::Training(step) => Noise::new(settings.dropout, settings.seed, &[step, shard as u64]),
        Pass::Evaluation => Noise::off(),
    }
}

/// Runs `work` with the model of a worker in the number format of the pass.
fn with_model<O: Objective, R>(
    objective: &O,
    worker: &Worker<O::Model>,
    kind: Kind,
    work: impl FnOnce(&O::Model) -> R,
) -> R {
    // In another number format than that of the weights, the model has casts of them, through which gradients flow.
    let cast = (kind != Kind::Float).then(|| objective.model(&mut worker.store.cast(kind)));
    work(cast.as_ref().unwrap_or(&worker.model))
}

fn batch_statistics<O: Objective>(
    objective: &O,
    worker: &Worker<O::Model>,
    shard: &[O::Example],
    (settings, pass, i): (ForwardSettings, Pass, usize),
) -> Option<Tensor> {
    with_model(objective, worker, settings.kind, |model| {
        objective.batch_statistics(model, shard, &mut noise(pass, settings, i))
    })
}

fn forward<O: Objective>(
    objective: &O,
    worker: &Worker<O::Model>,
    shard: &[O::Example],
    (stats, settings, i): (&MinibatchStats, ForwardSettings, usize),
) -> Forward {
    let batch_statistics = stats.batch_statistics.as_ref().map(|batch_statistics| {
        let batch_statistics = batch_statistics.lock().expect("no worker panicked");
        batch_statistics.detach().copy().set_requires_grad(true)
    });
    let at = At {
        totals: &stats.totals,
        pass: stats.pass,
        batch_statistics: batch_statistics.as_ref(),
    };
    let part = with_model(objective, worker, settings.kind, |model| {
        let run = || objective.forward(model, shard, at, &mut noise(at.pass, settings, i));
        match at.pass {
            Pass::Training(_) => run(),
            Pass::Evaluation => no_grad(run),
        }
    });
    Forward {
        part,
        batch_statistics,
    }
}

/// The weighted sum of the terms; zero, connected to nothing, if there are none.
fn total(terms: &[Term]) -> Tensor {
    terms
        .iter()
        .map(|term| &term.value * term.weight)
        .reduce(|sum, term| sum + term)
        .unwrap_or_else(|| Tensor::from(0f32))
}

/// Losses between cells, and for every shard the gradient they have with respect to its embeddings.
fn batch_loss<O: Objective>(
    objective: &O,
    parts: &[&ForwardOutput],
    pass: Pass,
) -> (Vec<Term>, Vec<Vec<Tensor>>) {
    let sets = parts[0].embeddings.len();
    let training = matches!(pass, Pass::Training(_));
    let joined: Vec<Tensor> = (0..sets)
        .map(|set| {
            let all = Tensor::cat(
                &parts
                    .iter()
                    .map(|part| part.embeddings[set].detach())
                    .collect::<Vec<_>>(),
                0,
            );
            all.set_requires_grad(training)
        })
        .collect();
    let terms = objective.batch_loss(&joined);
    if !training {
        return (terms, Vec::new());
    }
    let gradients = Tensor::run_backward(&[total(&terms)], &joined, false, false);
    let sizes: Vec<i64> = parts
        .iter()
        .map(|part| part.embeddings[0].size()[0])
        .collect();
    let by_set: Vec<Vec<Tensor>> = gradients
        .iter()
        .map(|gradient| gradient.split_with_sizes(&sizes, 0))
        .collect();
    let pulls = (0..parts.len())
        .map(|shard| {
            by_set
                .iter()
                .map(|set| set[shard].shallow_clone())
                .collect()
        })
        .collect();
    (terms, pulls)
}

/// Adds gradients to their slots in the order of the shards, whichever is ready first.
struct InOrder {
    slots: Mutex<Vec<Tensor>>,
    waiting: Mutex<(usize, BTreeMap<usize, Vec<Tensor>>)>,
}

impl InOrder {
    /// Slots of the parameters, and of the batch statistics if there are any.
    fn new(parameters: &Mutex<Vec<Tensor>>, other: Option<&Tensor>) -> Self {
        let parameters = parameters.lock().expect("no worker panicked");
        let slots = parameters.iter().chain(other).map(Tensor::shallow_clone);
        Self {
            slots: Mutex::new(slots.collect()),
            waiting: Mutex::new((0, BTreeMap::new())),
        }
    }

    fn add(&self, shard: usize, gradients: Vec<Tensor>) {
        let mut waiting = self.waiting.lock().expect("no worker panicked");
        waiting.1.insert(shard, gradients);
        let mut next = waiting.0;
        while let Some(gradients) = waiting.1.remove(&next) {
            let slots = self.slots.lock().expect("no worker panicked");
            // A parameter that a loss does not reach has no gradient.
            let defined = slots
                .iter()
                .zip(&gradients)
                .filter(|(_, gradient)| gradient.defined());
            no_grad(|| {
                defined.for_each(|(slot, gradient)| {
                    drop(slot.shallow_clone().f_add_(gradient).expect("same shape"))
                })
            });
            next += 1;
        }
        waiting.0 = next;
    }
}

/// Runs `task(worker, 0..n)` on all workers and returns the results in order.
fn in_parallel<W: Send, R: Send>(
    workers: &mut [W],
    n: usize,
    task: impl Fn(&mut W, usize) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = (0..n).map(|_| Mutex::new(None)).collect();
    let run = |worker: &mut W| {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(result) = results.get(i) else { break };
            *result.lock().expect("no worker panicked") = Some(task(worker, i));
        }
    };
    std::thread::scope(|scope| {
        for worker in workers.iter_mut().take(n) {
            scope.spawn(|| run(worker));
        }
    });
    results
        .into_iter()
        .map(|r| {
            r.into_inner()
                .expect("no worker panicked")
                .expect("every task ran")
        })
        .collect()
}

/// The weighted loss first, then every term and tally as a mean over the minibatch.
fn figures(terms: &[Term], tallies: &[(&'static str, f64)], totals: &Totals) -> Figures {
    let value = |term: &Term| term.value.double_value(&[]);
    let loss = terms.iter().map(|term| term.weight * value(term)).sum();
    let tallies = tallies
        .iter()
        .map(|(name, count)| (*name, count / totals.cells));
    std::iter::once(("loss", loss))
        .chain(terms.iter().map(|term| (term.name, value(term))))
        .chain(tallies)
        .collect()
}

/// Sums figures of the same name, in order of first appearance.
fn merge(all: Vec<Figures>) -> Figures {
    let mut sums = Figures::new();
    for (name, value) in all.into_iter().flatten() {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => sums.push((name, value)),
        }
    }
    sums
}
