//! Streams training cells from disk in shuffled windows: while one window is trained on, the next is read.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, sync_channel};

use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::data::Data;
use crate::corpus::{Group, Piece, TOKEN_BYTES};
use crate::distributed::Share;
use crate::options::Size;
use crate::random::{self, Seed};
use crate::train::pretraining::{Example, Pretraining};
use crate::train::{BatchPlan, Examples, Minibatch, Minibatches, checksum};

/// Minibatches buffered ahead of training.
const WAITING: usize = 2;

/// A request for the minibatches of an epoch, or for those of validation.
struct Request {
    epoch: Option<u64>,
    cut: BatchPlan,
    reply: SyncSender<Result<Minibatch<Example>>>,
}

/// Sends requests to the server; numbers of cells are known without one.
pub struct Stream<'a> {
    requests: Sender<Request>,
    data: &'a Data,
}

/// Requests to a server.
pub struct Requests(Receiver<Request>);

/// Serves requests, each on its own thread.
pub struct Server<'a> {
    data: &'a Data,
    objective: &'a Pretraining<'a>,
    seed: Seed,
    window: u64,
}

/// Connects a stream to a server with the given memory.
pub fn connect<'a>(
    data: &'a Data,
    objective: &'a Pretraining<'a>,
    (seed, memory): (Seed, Size),
) -> (Stream<'a>, Server<'a>, Requests) {
    let (requests, inbox) = mpsc::channel();
    let server = Server {
        data,
        objective,
        seed,
        // Two windows are in memory; half of it is for decoding and buffered minibatches.
        window: memory.0 / 4 / TOKEN_BYTES,
    };
    (Stream { requests, data }, server, Requests(inbox))
}

impl Stream<'_> {
    fn request(&self, epoch: Option<u64>, cut: BatchPlan) -> Minibatches<'_, Example> {
        let (reply, minibatches) = sync_channel(WAITING);
        match self.requests.send(Request { epoch, cut, reply }) {
            Ok(()) => Box::new(minibatches.into_iter()),
            Err(_) => Box::new(std::iter::once(Err(anyhow!("the reader thread stopped")))),
        }
    }
}

impl Examples<Example> for Stream<'_> {
    fn cells(&self) -> u64 {
        self.data.training_cells()
    }

    fn checksum(&self) -> u64 {
        let all = checksum(0..self.data.collection.cells());
        all.wrapping_sub(checksum(self.data.held_out.iter().copied()))
    }

    fn validation_cells(&self) -> u64 {
        self.data.validation.len() as u64
    }

    fn epoch(&self, epoch: u64, cut: BatchPlan) -> Minibatches<'_, Example> {
        self.request(Some(epoch), cut)
    }

    fn validation(&self, cut: BatchPlan) -> Minibatches<'_, Example> {
        self.request(None, cut)
    }
}

/// Position of a cell in a window: piece and row.
type Position = (usize, usize);

/// The cells of some pieces, in the order in which they are trained on.
struct Window {
    pieces: Vec<(Piece, Group)>,
    order: Vec<Position>,
}

/// The receiver of the minibatches is gone.
struct Unwanted;

impl Server<'_> {
    /// Serves requests until the stream is dropped. Validation may be requested in the middle of an epoch.
    pub fn serve(&self, requests: Requests) {
        std::thread::scope(|scope| {
            for request in requests.0 {
                scope.spawn(move || match request.epoch {
                    Some(epoch) => self.epoch(epoch, &request),
                    None => self.validation(&request),
                });
            }
        });
    }

    fn validation(&self, request: &Request) -> Result<(), Unwanted> {
        let BatchPlan { size, from, share } = request.cut;
        for cells in self.data.validation.chunks(size).skip(from as usize) {
            let own = &cells[share.range(cells.len())];
            let examples = own
                .par_iter()
                .map(|cell| self.objective.example(cell, None));
            let minibatch = Minibatch {
                examples: examples.collect(),
                cells: cells.len() as u64,
                checksum: checksum(cells.iter().map(|cell| cell.id)),
            };
            request.reply.send(Ok(minibatch)).map_err(|_| Unwanted)?;
        }
        Ok(())
    }

    /// Sends the minibatches of an epoch; another thread reads ahead.
    fn epoch(&self, epoch: u64, request: &Request) -> Result<(), Unwanted> {
        std::thread::scope(|scope| {
            let (sender, windows) = sync_channel(0);
            let skipped = request.cut.from * request.cut.size as u64;
            scope.spawn(move || self.read_windows(epoch, skipped, &sender));
            let left = self.data.training_cells().saturating_sub(skipped);
            let mut waiting = Waiting::first(request.cut.size, left);
            for window in windows {
                let window = match window {
                    Ok(window) => window,
                    Err(error) => return request.reply.send(Err(error)).map_err(|_| Unwanted),
                };
                self.send_window(epoch, &window, &mut waiting, request)?;
            }
            Ok(())
        })
    }

    /// Reads window after window, starting after the skipped cells.
    fn read_windows(&self, epoch: u64, mut skipped: u64, sender: &SyncSender<Result<Window>>) {
        let windows = self.data.collection.windows(self.seed, epoch, self.window);
        for (number, pieces) in windows.into_iter().enumerate() {
            let rows: Vec<Vec<usize>> = pieces
                .iter()
                .map(|piece| self.data.training_rows(piece))
                .collect();
            let cells = rows.iter().map(|rows| rows.len() as u64).sum::<u64>();
            if cells <= skipped {
                skipped -= cells;
                continue;
            }
            let mut order = self.order(epoch, number as u64, &rows);
            order.drain(..std::mem::take(&mut skipped) as usize);
            let read = |piece: Piece| Ok((piece, self.data.collection.read(&piece)?));
            let pieces: Result<Vec<_>> = pieces.into_par_iter().map(read).collect();
            let failed = pieces.is_err();
            let window = pieces.map(|pieces| Window { pieces, order });
            if sender.send(window).is_err() || failed {
                return;
            }
        }
    }

    fn order(&self, epoch: u64, window: u64, rows: &[Vec<usize>]) -> Vec<Position> {
        let pieces = rows.iter().enumerate();
        let positions: Vec<Position> = pieces
            .flat_map(|(piece, rows)| rows.iter().map(move |&row| (piece, row)))
            .collect();
        let mut stream = self.seed.stream("order of cells", &[epoch, window]);
        let order = random::permutation(&mut stream, positions.len());
        order.into_iter().map(|at| positions[at]).collect()
    }

    /// Adds the cells of a window to the unfinished minibatch, and sends full minibatches.
    fn send_window(
        &self,
        epoch: u64,
        window: &Window,
        waiting: &mut Waiting,
        request: &Request,
    ) -> Result<(), Unwanted> {
        let mut positions = &window.order[..];
        while !positions.is_empty() {
            let missing = waiting.size - waiting.cells as usize;
            let (now, later) = positions.split_at(positions.len().min(missing));
            let own = waiting.own(request.cut.share, now.len());
            let example = |&(piece, row): &Position| {
                let (piece, group) = &window.pieces[piece];
                let cell = self.data.cell(piece, group, row);
                self.objective.example(&cell, Some(epoch))
            };
            waiting
                .examples
                .par_extend(now[own].par_iter().map(example));
            waiting.cells += now.len() as u64;
            let ids = now
                .iter()
                .map(|&(piece, row)| window.pieces[piece].0.first + row as u64);
            waiting.checksum = waiting.checksum.wrapping_add(checksum(ids));
            positions = later;
            if waiting.cells as usize == waiting.size {
                let next = waiting.next(request.cut.size);
                let full = std::mem::replace(waiting, next);
                request
                    .reply
                    .send(Ok(full.minibatch()))
                    .map_err(|_| Unwanted)?;
            }
        }
        Ok(())
    }
}

/// A minibatch that is not full yet.
struct Waiting {
    /// Cells that it will have, and cells of the epoch that follow it.
    size: usize,
    behind: u64,
    /// Cells that it has, over all ranks, and examples of this rank.
    cells: u64,
    checksum: u64,
    examples: Vec<Example>,
}

impl Waiting {
    /// The first minibatch when the given number of cells of an epoch is left.
    fn first(size: usize, left: u64) -> Self {
        let size = left.min(size as u64);
        Self {
            size: size as usize,
            behind: left - size,
            cells: 0,
            checksum: 0,
            examples: Vec::new(),
        }
    }

    /// The minibatch after it.
    fn next(&self, size: usize) -> Self {
        Self::first(size, self.behind)
    }

    /// Of the given number of added cells, those of this rank.
    fn own(&self, share: Share, added: usize) -> Range<usize> {
        let (own, here) = (share.range(self.size), self.cells as usize);
        let within = |at: usize| at.clamp(here, here + added) - here;
        within(own.start)..within(own.end)
    }

    /// The minibatch, with cells sorted by length so that cells of similar length share a forward pass.
    fn minibatch(mut self) -> Minibatch<Example> {
        self.examples
            .sort_by_key(|example| Reverse(example.input.len() + example.queries.len()));
        Minibatch {
            examples: self.examples,
            cells: self.cells,
            checksum: self.checksum,
        }
    }
}
