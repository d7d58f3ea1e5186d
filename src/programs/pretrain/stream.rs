//! Training cells from disk in the order of an epoch: while one window of cells is trained on, the next is read.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, sync_channel};

use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::data::Data;
use crate::corpus::{Group, Piece, TOKEN_BYTES};
use crate::options::Size;
use crate::random::{self, Seed};
use crate::ranks::Share;
use crate::train::pretraining::{Example, Pretraining};
use crate::train::{Cut, Examples, Minibatch, Minibatches, checksum};

/// Minibatches that wait to be trained on.
const WAITING: usize = 2;

/// Wanted: the minibatches of an epoch, or those to validate on.
struct Request {
    epoch: Option<u64>,
    cut: Cut,
    reply: SyncSender<Result<Minibatch<Example>>>,
}

/// Where requests go, and what is known without asking.
pub struct Stream<'a> {
    requests: Sender<Request>,
    data: &'a Data,
}

/// Requests on their way to a server.
pub struct Requests(Receiver<Request>);

/// Answers requests, each on a thread of its own.
pub struct Server<'a> {
    data: &'a Data,
    objective: &'a Pretraining<'a>,
    seed: Seed,
    window: u64,
}

/// Connects a stream and its server, which has the given memory.
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
        // Two windows are in memory; half of it is for decoding and for what waits.
        window: memory.0 / 4 / TOKEN_BYTES,
    };
    (Stream { requests, data }, server, Requests(inbox))
}

impl Stream<'_> {
    fn ask(&self, epoch: Option<u64>, cut: Cut) -> Minibatches<'_, Example> {
        let (reply, answers) = sync_channel(WAITING);
        match self.requests.send(Request { epoch, cut, reply }) {
            Ok(()) => Box::new(answers.into_iter()),
            Err(_) => Box::new(std::iter::once(Err(anyhow!("the reader of cells stopped")))),
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

    fn epoch(&self, epoch: u64, cut: Cut) -> Minibatches<'_, Example> {
        self.ask(Some(epoch), cut)
    }

    fn validation(&self, cut: Cut) -> Minibatches<'_, Example> {
        self.ask(None, cut)
    }
}

/// A cell in a window that was read: which piece, which row.
type Place = (usize, usize);

/// The cells of some pieces, in the order in which they are trained on.
struct Window {
    pieces: Vec<(Piece, Group)>,
    order: Vec<Place>,
}

/// Nobody waits for the answer any more.
struct Unwanted;

impl Server<'_> {
    /// Answers until the stream is gone. Validation may be asked for in the middle of an epoch.
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
        let Cut { size, from, share } = request.cut;
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

    /// Reads window after window from the cell on that stands behind the skipped ones.
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

    fn order(&self, epoch: u64, window: u64, rows: &[Vec<usize>]) -> Vec<Place> {
        let pieces = rows.iter().enumerate();
        let places: Vec<Place> = pieces
            .flat_map(|(piece, rows)| rows.iter().map(move |&row| (piece, row)))
            .collect();
        let mut stream = self.seed.stream("order of cells", &[epoch, window]);
        let order = random::permutation(&mut stream, places.len());
        order.into_iter().map(|at| places[at]).collect()
    }

    /// Adds the cells of a window to the minibatch that waits, and sends those that are full.
    fn send_window(
        &self,
        epoch: u64,
        window: &Window,
        waiting: &mut Waiting,
        request: &Request,
    ) -> Result<(), Unwanted> {
        let mut places = &window.order[..];
        while !places.is_empty() {
            let missing = waiting.size - waiting.cells as usize;
            let (now, later) = places.split_at(places.len().min(missing));
            let own = waiting.own(request.cut.share, now.len());
            let example = |&(piece, row): &Place| {
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
            places = later;
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
    /// Cells that it will have, and cells of the epoch that are behind it.
    size: usize,
    behind: u64,
    /// Cells that it has, those of other ranks too, and examples of this rank's.
    cells: u64,
    checksum: u64,
    examples: Vec<Example>,
}

impl Waiting {
    /// The first minibatch when so many cells of an epoch are to come.
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

    /// Of so many cells that are added, those that are this rank's.
    fn own(&self, share: Share, added: usize) -> Range<usize> {
        let (own, here) = (share.range(self.size), self.cells as usize);
        let within = |at: usize| at.clamp(here, here + added) - here;
        within(own.start)..within(own.end)
    }

    /// Cells of like length go through the model together.
    fn minibatch(mut self) -> Minibatch<Example> {
        self.examples
            .sort_by_key(|example| Reverse(example.told.len() + example.asked.len()));
        Minibatch {
            examples: self.examples,
            cells: self.cells,
            checksum: self.checksum,
        }
    }
}
