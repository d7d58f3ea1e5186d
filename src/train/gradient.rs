//! The gradient of a minibatch, computed in shards on several threads with one and the same result.

use super::objective::{At, Objective, Part, Pass, Term, Totals};
use super::together::add_up;
use crate::model::{Flat, Noise, Store};
use crate::random::Seed;
use crate::ranks::Ranks;
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
    /// Where each trainable parameter's gradient lies in the flat buffer.
    slots: Mutex<Vec<Tensor>>,
    /// Cells per shard. Part of the definition of a run: sums of floats depend on it.
    shard: usize,
    how: How,
}

/// How the cells of a shard are computed.
#[derive(Clone, Copy)]
struct How {
    kind: Kind,
    seed: Seed,
    dropout: f64,
}

/// What is known of a minibatch before its cells are computed.
struct Whole {
    totals: Totals,
    pass: Pass,
    survey: Option<Mutex<Tensor>>,
}

/// A shard after its forward pass.
struct Forward {
    part: Part,
    /// Its own handle on what was found in all cells, to which gradients flow.
    survey: Option<Tensor>,
}

/// A shard after its forward pass, and the gradient that the other cells of its minibatch send to its embeddings.
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
            how: How {
                kind,
                seed,
                dropout,
            },
        }
    }

    /// The losses of a minibatch, of which this rank has the given examples. In training the gradient of their share is added to
    /// the flat buffer.
    ///
    /// Losses between cells are those between the cells of one rank.
    pub fn minibatch(&mut self, examples: &[O::Example], pass: Pass) -> Result<Figures> {
        let mut totals = self.objective.totals(examples);
        totals.add_up(self.ranks)?;
        let survey = self.survey(examples, pass)?;
        let pulled = survey.as_ref().map(Tensor::zeros_like);
        let at = Whole {
            totals,
            pass,
            survey: survey.as_ref().map(|s| Mutex::new(s.shallow_clone())),
        };
        let mut figures = if self.objective.couples() {
            self.coupled(examples, &at, pulled.as_ref())
        } else {
            self.separate(examples, &at, pulled.as_ref())
        };
        if let (Some(survey), Some(mut pulled)) = (&survey, pulled) {
            add_up(self.ranks, &mut pulled)?;
            self.pull_survey(examples, pass, pulled);
            self.objective.absorb(&self.workers[0].model, survey);
        }
        let mut numbers: Vec<f64> = figures.iter().map(|(_, value)| *value).collect();
        self.ranks.sum_f64(&mut numbers)?;
        figures
            .iter_mut()
            .zip(numbers)
            .for_each(|((_, value), sum)| *value = sum);
        Ok(figures)
    }

    /// What the objective wants to know of all cells of a training minibatch, before any of them is computed.
    fn survey(&mut self, examples: &[O::Example], pass: Pass) -> Result<Option<Tensor>> {
        if !self.objective.surveys() || pass == Pass::Evaluation {
            return Ok(None);
        }
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, how) = (self.objective, self.how);
        let found = in_parallel(&mut self.workers, shards.len(), |worker, i| {
            no_grad(|| survey(objective, worker, shards[i], (how, pass, i)))
        });
        let sum = found.into_iter().flatten().reduce(|sum, part| sum + part);
        sum.map(|mut sum| add_up(self.ranks, &mut sum).map(|()| sum))
            .transpose()
    }

    /// Adds the gradient that comes back through what was found in all cells: the survey is made again, and pulled.
    fn pull_survey(&mut self, examples: &[O::Example], pass: Pass, pulled: Tensor) {
        let pulled = Mutex::new(pulled);
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, how) = (self.objective, self.how);
        let sums = InOrder::new(&self.slots, None);
        in_parallel(&mut self.workers, shards.len(), |worker, i| {
            let found = survey(objective, worker, shards[i], (how, pass, i));
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
        at: &Whole,
        pulled: Option<&Tensor>,
    ) -> Figures {
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, how) = (self.objective, self.how);
        let sums = InOrder::new(&self.slots, pulled);
        let figures = in_parallel(&mut self.workers, shards.len(), |worker, i| {
            let Forward { part, survey } = forward(objective, worker, shards[i], (at, how, i));
            if matches!(at.pass, Pass::Training(_)) {
                sums.add(i, backward(total(&part.terms), worker, survey));
            }
            figures(&part.terms, &part.tallies, &at.totals)
        });
        merge(figures)
    }

    /// Forward of every shard, the losses between their cells, then backward of every shard.
    fn coupled(&mut self, examples: &[O::Example], at: &Whole, pulled: Option<&Tensor>) -> Figures {
        let shards: Vec<&[O::Example]> = examples.chunks(self.shard).collect();
        let (objective, how) = (self.objective, self.how);
        let done = in_parallel(&mut self.workers, shards.len(), |worker, i| {
            forward(objective, worker, shards[i], (at, how, i))
        });
        let parts = || done.iter().map(|forward| &forward.part);
        let (terms, pulls) = couple(objective, &parts().collect::<Vec<_>>(), at.pass);
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
                let (Forward { part, survey }, pull) = taken.expect("each shard is taken once");
                let pulled = part
                    .embeddings
                    .iter()
                    .zip(&pull)
                    .map(|(e, p)| (e * p).sum(Kind::Float));
                let loss = pulled.fold(total(&part.terms), |sum, pulled| sum + pulled);
                sums.add(i, backward(loss, worker, survey));
            });
        }
        merge(all)
    }
}

/// Gradients of a loss with respect to the trainable parameters, and to what was found in all cells.
fn backward<M>(loss: Tensor, worker: &Worker<M>, survey: Option<Tensor>) -> Vec<Tensor> {
    let inputs: Vec<&Tensor> = worker.parameters.iter().chain(&survey).collect();
    Tensor::run_backward(&[loss], &inputs, false, false)
}

/// How minibatches are computed.
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

fn noise(pass: Pass, how: How, shard: usize) -> Noise {
    match pass {
        Pass::Training(step) => Noise::new(how.dropout, how.seed, &[step, shard as u64]),
        Pass::Evaluation => Noise::off(),
    }
}

/// Does something with the worker's model in the number format of the pass.
fn with_model<O: Objective, R>(
    objective: &O,
    worker: &Worker<O::Model>,
    kind: Kind,
    work: impl FnOnce(&O::Model) -> R,
) -> R {
    // In another format than the weights' own, the model is made of casts of them, through which gradients flow back.
    let cast = (kind != Kind::Float).then(|| objective.model(&mut worker.store.cast(kind)));
    work(cast.as_ref().unwrap_or(&worker.model))
}

fn survey<O: Objective>(
    objective: &O,
    worker: &Worker<O::Model>,
    shard: &[O::Example],
    (how, pass, i): (How, Pass, usize),
) -> Option<Tensor> {
    with_model(objective, worker, how.kind, |model| {
        objective.survey(model, shard, &mut noise(pass, how, i))
    })
}

fn forward<O: Objective>(
    objective: &O,
    worker: &Worker<O::Model>,
    shard: &[O::Example],
    (whole, how, i): (&Whole, How, usize),
) -> Forward {
    let survey = whole.survey.as_ref().map(|survey| {
        let survey = survey.lock().expect("no worker panicked");
        survey.detach().copy().set_requires_grad(true)
    });
    let at = At {
        totals: &whole.totals,
        pass: whole.pass,
        survey: survey.as_ref(),
    };
    let part = with_model(objective, worker, how.kind, |model| {
        let run = || objective.forward(model, shard, at, &mut noise(at.pass, how, i));
        match at.pass {
            Pass::Training(_) => run(),
            Pass::Evaluation => no_grad(run),
        }
    });
    Forward { part, survey }
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
fn couple<O: Objective>(
    objective: &O,
    parts: &[&Part],
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
    let terms = objective.couple(&joined);
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
    /// Slots of the parameters, and of what else gradients are with respect to.
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
